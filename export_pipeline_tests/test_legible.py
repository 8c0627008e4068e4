"""Text from outside is shown letter by letter, and obeyed by nothing."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from export_pipeline.legible import as_block, as_code, legible, legible_json, legible_lines
from export_pipeline_tests.security.hostile import HOSTILE

any_text = st.text(st.characters(codec=None)) | st.sampled_from(HOSTILE)
markdown_text = st.text(st.sampled_from("`~<>[]()!*_#\\&\n\r\t ab")) | any_text


def tokens(text: str) -> list[Token]:
    """What CommonMark makes of a text, HTML allowed."""
    found = MarkdownIt("commonmark", {"html": True}).parse(text)
    return [inner for token in found for inner in (token, *(token.children or ()))]


@given(any_text)
def test_nothing_is_left_that_a_terminal_or_a_log_obeys(text: str) -> None:
    """No control character, end of a line, mark of direction or half of a surrogate pair outlives it."""
    shown = legible(text)
    assert [c for c in shown if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")] == []
    assert [c for c in shown if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF")] == []
    assert [c for c in shown if unicodedata.bidirectional(c) in ("LRI", "RLI", "FSI", "PDI")] == []
    assert len(shown.splitlines()) <= 1
    assert legible_lines(text).replace("\n", "").replace("\t", "") == legible(text.replace("\n", "").replace("\t", ""))


@pytest.mark.parametrize("text", ["2026/11/23/part-7.gz", "é漢😀 %20\\x", "[red]", "👩‍👩‍👧", "עברית"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Letters of any script, emoji, blanks and backslashes are shown as they are."""
    assert legible(text) == legible_lines(text) == text


def test_what_is_escaped_can_be_read() -> None:
    """An escape names the character, as Python writes it."""
    assert legible("a\n\x1b[2J\x9b\u202ez\ud800") == r"a\n\x1b[2J\x9b\u202ez\ud800"


@given(any_text)
def test_json_stays_the_same_json(text: str) -> None:
    """In JSON the escapes are JSON's own, so that a program reads what was meant."""
    shown = legible_json(json.dumps({text: [text]}, indent=2, ensure_ascii=False))
    assert json.loads(shown) == {text: [text]}
    assert legible_lines(shown) == shown


@given(markdown_text)
def test_markdown_shows_it_letter_by_letter(text: str) -> None:
    """In a line and in a list, no text becomes HTML, a link, a picture or a heading: it is code, and whole."""
    for before in ("", "- "):
        found = tokens(before + as_code(text))
        assert {token.type for token in found} <= {
            *("paragraph_open", "paragraph_close", "inline", "code_inline"),
            *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
        }
        (code,) = (token.content for token in found if token.type == "code_inline")
        assert code.strip(" ") == legible(text).strip(" ")


@given(markdown_text)
def test_a_block_of_markdown_never_ends_early(text: str) -> None:
    """A block that holds what looks like its own end goes on behind it."""
    (block,) = tokens(as_block(text))
    assert block.type == "fence"
    assert block.content == legible_lines(text).replace("\x00", "") + "\n"
