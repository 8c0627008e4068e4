"""What Dagster's UI renders as Markdown or as a link never obeys a key, an event or an answer."""

import os
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
from dagster import Failure, MarkdownMetadataValue, TableMetadataValue, UrlMetadataValue

from export_pipeline.errors import FileCorrupt, ListingFailed, TryLater
from export_pipeline.ledger.inspection import UnreadableFile
from export_pipeline.orchestration import assets, check_results, ops, wording
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.source.file import SourceFile
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import open_source
from export_pipeline.steps.read import ReadOutcome
from export_pipeline.subscribers.scrubbing import excerpt
from export_pipeline_tests.security.hostile import FORGED, HOSTILE
from export_pipeline_tests.security.test_markdown import tokens

ACTIVE = {"html_inline", "html_block", "link_open", "image", "heading_open", "hr", "fence", "code_block"}


def active(markdown: str) -> set[str]:
    """What of a Markdown text is more than words."""
    return {token.type for token in tokens(markdown)} & ACTIVE


@pytest.mark.parametrize("key", HOSTILE)
def test_keys_in_the_reports_of_checks(key: str) -> None:
    """A list of keys in a check's metadata is a list of code, and nothing in it is HTML or a link."""
    listed = check_results._listed([key, "2026/11/23/well.gz"])
    assert isinstance(listed, MarkdownMetadataValue)
    text = listed.md_str
    assert text is not None
    assert active(text) == set()
    assert [token.type for token in tokens(text)].count("code_inline") == 2
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("key", HOSTILE)
def test_a_traceback_stays_a_block(key: str) -> None:
    """Whatever an exception quotes, its traceback is one block of code on the page of the run."""
    with pytest.raises(Failure) as caught, failures_without_secrets([]):
        raise RuntimeError(f"```\n\n<script>alert(1)</script>{key}\n\n~~~~\n````")
    shown = caught.value.metadata["traceback"]
    assert isinstance(shown, MarkdownMetadataValue)
    assert [token.type for token in tokens(shown.md_str or "")] == ["fence"]
    assert "\x1b" not in (caught.value.description or "")


@pytest.mark.parametrize("key", HOSTILE)
def test_a_table_holds_plain_text(key: str) -> None:
    """The table of a manifest's files shows keys as text on one line."""
    file = SourceFile(key, "etag", 1, datetime.now(timezone.utc))
    table = assets._table([file])
    assert isinstance(table, TableMetadataValue)
    (record,) = table.records
    assert len(str(record.data["file"]).splitlines()) == 1
    assert not any(char in str(record.data["file"]) for char in "\x1b\n\r\u202e\u2028")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)//https://",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        " javascript:alert(1)",
        "file:///etc/passwd",
        "`<img src=x onerror=alert(1)>`",
    ],
)
@pytest.mark.parametrize("option", ["url", "api_url", "queue_url", "topic", "function"])
def test_no_link_runs_anything(url: str, option: str) -> None:
    """Only http:// and https:// become links, in metadata and in an asset's description; all else is shown as text."""
    place = assets.destination_place("own", {option: url})
    assert place is not None
    for value in assets.shown(place, "destination").values():
        assert not isinstance(value, UrlMetadataValue)
    assert active(f"Events that own (own, {assets.written(place)}) has accepted.") == set()


@pytest.mark.parametrize(
    "rest", ["><script>alert(1)</script>", "> [x](javascript:alert(1))", "`<b>`", "\n# heading", ""]
)
def test_a_link_in_a_description_ends_where_it_should(rest: str) -> None:
    """An address that holds what ends a link in Markdown is shown as text."""
    written = assets.written(f"https://example.com/{rest}")
    found = [token for token in tokens(f"see {written}") if token.type in ACTIVE]
    if rest:
        assert found == []
    else:
        assert [dict(token.attrs)["href"] for token in found] == ["https://example.com/"]


def test_what_a_destination_answers_is_one_harmless_line() -> None:
    """Escape sequences and line feeds of an answer reach neither a log nor a terminal."""
    said = excerpt(b"no\r\n2026-11-23 - ERROR - forged \x1b[2J\x1b]0;owned\x07 \xe2\x80\xae end")
    assert said == r"no 2026-11-23 - ERROR - forged \x1b[2J\x1b]0;owned\x07 \u202e end"


def test_an_error_of_ours_is_one_line_for_each_file() -> None:
    """The key in an error about a file is escaped, and kept as it is for the program."""
    error = FileCorrupt("a\nb\x1b[0m", "truncated")
    assert str(error) == r"a\nb\x1b[0m: truncated"
    assert error.key == "a\nb\x1b[0m"
    with pytest.raises(Failure) as caught, failures_without_secrets([]):
        raise TryLater("asked \x1b[31mfor it")
    assert caught.value.description == r"asked \x1b[31mfor it"


def test_what_is_told_of_unreadable_files_is_harmless() -> None:
    """A key and a reason are one line each in the messages of a run and in the table beside them."""
    file = UnreadableFile(FORGED, date(2026, 11, 23), reason=FORGED, attempts=1, is_tried_again=True)
    assert "\n" not in wording.unreadable_files([file])
    assert wording.unreadable(ReadOutcome(unreadable={FORGED: FORGED}), max_attempts=5).count("\n") == 1
    table = ops._details([file], max_attempts=5)["unreadable"]
    assert isinstance(table, TableMetadataValue)
    (record,) = table.records
    assert [cell for cell in record.data.values() if "\n" in str(cell)] == []


def test_a_folder_that_cannot_be_listed_is_told_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a folder that the system refuses to list is escaped in the error."""

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", FORGED)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ListingFailed) as caught:
        list(open_source(SourceSettings(url=tmp_path.as_uri())).list_files())
    assert "\n" not in str(caught.value)
    assert FORGED.replace("\n", "\\n") in str(caught.value)
