"""A file that was known stays known, however its tag was spelled when it was written down."""

from datetime import date, datetime, timezone

import pytest

from export_pipeline.ledger.folding import Fingerprints, fingerprint
from export_pipeline.ledger.known import Known
from export_pipeline.source.etag import spellings
from export_pipeline.source.file import SourceFile

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
DAY = date(2026, 11, 28)
NOON = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
FILE = SourceFile("2026/11/28/a", MD5, 1, NOON)


@pytest.mark.parametrize("spelling", spellings(MD5))
def test_what_was_taken_under_another_spelling_is_known(spelling: str) -> None:
    """An upgrade makes no new content of it, in the ledger's rows or folded."""
    rows = Known({(FILE.key, spelling): "m1"}, frozenset({FILE.key}), {}, {})
    assert rows.has(FILE, DAY)
    assert rows.manifest_of(FILE, DAY) == "m1"
    one = fingerprint(FILE._replace(etag=spelling))
    folded = Known({}, frozenset(), {}, {DAY: Fingerprints(frozenset({one[:8]}), {one: "m2"})})
    assert folded.has(FILE, DAY)
    assert folded.manifest_of(FILE, DAY) == "m2"
    other = FILE._replace(etag="0cc175b9c0f1b6a831c399e269772661")
    for known in (rows, folded):
        assert not known.has(other, DAY)
        assert known.manifest_of(other, DAY) is None
        assert known.has_key(other.key, DAY)


def test_what_was_given_up_for_its_spelling_is_tried_anew() -> None:
    """A tag in &#34; could never be read before: under its clean tag the file is new, and overwrites nothing."""
    earlier = f"&#34;{MD5}&#34;"
    known = Known({(FILE.key, earlier): "m1"}, frozenset(), {FILE.key: {earlier}}, {})
    assert not known.has(FILE, DAY)
    assert not known.was_taken(FILE.key, DAY)
