"""Text from outside, made harmless where people read it."""

import json
import re
import unicodedata
from datetime import date, datetime, timedelta, timezone

import pytest
from dagster import Failure
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.errors import FileGone
from export_pipeline.ledger.inspection import UnreadableFile
from export_pipeline.ledger.records import DatedFile
from export_pipeline.orchestration import check_results, wording
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.printable import as_code, as_code_block, printable, printable_json, printable_lines
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.completeness import Comparison, Freshness
from export_pipeline.subscribers.scrubbing import excerpt

ANY_TEXT = st.text(st.characters(codec=None)) | st.text("`\n\x1b[2K\u202eab")
# JSON makes one character of two halves of a pair.
WHOLE_TEXT = st.text(st.characters(codec="utf-8"))
NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
HOSTILE = SourceFile("2026/11/23/`<b>\n# owned\x1b[2K", "etag", 1, NOW)
NASTY = "2026/11/23/a\x1b[2K\rok\n2026-11-23 - dagster - INFO - all delivered\u202e"


@given(ANY_TEXT)
def test_what_is_printable_does_nothing(text: str) -> None:
    """No control character, turn of direction or half of a surrogate pair is left, and all else is as it was."""
    shown = printable(text)
    assert not [one for one in shown if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not re.search("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    assert printable(shown) == shown
    if "\\" not in text:
        assert shown.encode("ascii", "backslashreplace").decode("unicode_escape") == text


@given(ANY_TEXT)
def test_lines_stay_lines(text: str) -> None:
    """Where several lines are meant their ends and tabs stay, and each line is as printable makes it."""
    lines = printable_lines(text).split("\n")
    assert lines == ["\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n")]


@given(st.recursive(WHOLE_TEXT, lambda inner: st.lists(inner) | st.dictionaries(WHOLE_TEXT, inner)))
def test_json_means_the_same(value: object) -> None:
    """JSON that was made harmless is still JSON, of the same value."""
    made = printable_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(made) == value
    assert printable_lines(made) == made


@given(ANY_TEXT)
def test_code_does_not_end_early(text: str) -> None:
    """In Markdown no text ends the code span, or the fenced block, that it is shown in."""
    span = as_code(text)
    marks = re.match("`+", span)
    assert marks is not None
    assert "\n" not in span
    inner = span[len(marks[0]) : -len(marks[0])]
    assert inner == f" {printable(text)} "
    assert marks[0] not in re.findall("`+", inner)
    first, *shown, last = as_code_block(text).split("\n")
    assert first == last
    assert not [line for line in shown if re.fullmatch(" {0,3}`+[ \t]*", line) and line.count("`") >= len(first)]


@pytest.mark.parametrize(
    "message",
    [
        str(FileGone(NASTY, "gone")),
        wording.unreadable_files([UnreadableFile(NASTY, date(2026, 11, 23), "it is gone", 1, False)]),
        excerpt(NASTY.encode()),
    ],
    ids=["error", "log", "answer"],
)
def test_no_key_and_no_answer_forges_a_line(message: str) -> None:
    """A key or a response with line ends and terminal sequences is escaped, on one line, in messages."""
    assert "\n" not in message
    assert "\x1b" not in message
    assert r"a\x1b[2K" in message
    assert r"delivered\u202e" in message


def test_keys_stay_in_their_code_spans() -> None:
    """A check tells each missing key as code, however the key tries to end that, and on one line."""
    found = Comparison(date(2026, 11, 23), date(2026, 11, 23), missing=[DatedFile(HOSTILE, date(2026, 11, 23))])
    result = check_results.completeness(found, None)[""]
    assert result.metadata["missing_keys"].value == r"- `` 2026/11/23/`<b>\n# owned\x1b[2K ``"
    assert result.text.endswith(r"the first is 2026/11/23/`<b>\n# owned\x1b[2K")


def test_a_late_key_forges_no_line() -> None:
    """Nor does the first file that no run has found."""
    found = Freshness("", 1, NOW, HOSTILE.key, ())
    text = check_results.freshness(found, timedelta(hours=1), NOW)[""].text
    assert r"from 2026/11/23/`<b>\n# owned\x1b[2K;" in text


def test_a_traceback_stays_in_its_block() -> None:
    """What an exception says does not end the block that the UI shows the traceback in."""
    with pytest.raises(Failure) as caught, failures_without_secrets(["s3cret"]):
        raise RuntimeError("s3cret\n```\n# owned\x1b[2K")
    shown = str(caught.value.metadata["traceback"].value)
    assert shown.startswith("````\nTraceback")
    assert shown.endswith("\n````")
    assert r"# owned\x1b[2K" in shown
    assert "s3cret" not in shown
