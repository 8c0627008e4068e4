"""What must hold for any page of a listing. Run it for long by hand, as the target of files:

``python -m export_pipeline_tests.fuzz.pages -max_total_time=3600 <folder of inputs>``.
"""

import sys
from datetime import datetime
from xml.etree import ElementTree

from export_pipeline.source.etag import are_same, clean, spellings
from export_pipeline.source.s3_page import _parse_page, read_page


def check_page(body: bytes) -> None:
    """Take the files out of *body*: it is a page, read the same in the fast way and by the parser, or an error of it.

    Raises:
        AssertionError: a promise is broken. Any other exception is a defect as well.
    """
    try:
        files, rest = read_page(body)
    except (ValueError, ElementTree.ParseError):
        return
    for key, etag, size_bytes, modified in files:
        assert key
        assert not key.endswith("/")
        assert size_bytes >= 0
        assert isinstance(modified, datetime)
        assert modified.tzinfo is not None
        check_tag(etag)
    try:
        # botocore goes on with the rest.
        left = ElementTree.fromstring(rest)
        parsed, _ = _parse_page(body)
    except (ValueError, LookupError, ElementTree.ParseError):
        return
    assert parsed == files
    assert not [child for child in left if str(child.tag).rpartition("}")[2] == "Contents"]


def check_tag(etag: str) -> None:
    """A tag that was kept is kept as it is, fits into the ledger, and is the same in any spelling."""
    assert clean(etag) == etag
    assert len(etag) <= 256
    assert etag.isascii()
    assert all(are_same(etag, spelling) for spelling in spellings(etag))


if __name__ == "__main__":
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    atheris.instrument_all()
    atheris.Setup(sys.argv, check_page)
    atheris.Fuzz()
