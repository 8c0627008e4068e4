"""What is put into Markdown, as a parser of CommonMark that lets HTML through reads it."""

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from export_pipeline.printable import as_code, as_code_block, printable, printable_lines
from export_pipeline_tests.security.hostile import HOSTILE

MARKS = st.text(st.sampled_from("`~<>[]()!*_#\\&\n\r\t ab"), min_size=1)
TEXTS = MARKS | st.text(min_size=1) | st.sampled_from(HOSTILE)


def tokens(text: str) -> list[Token]:
    """What CommonMark makes of a text."""
    found = MarkdownIt("commonmark", {"html": True}).parse(text)
    return [inner for token in found for inner in (token, *(token.children or ()))]


@given(TEXTS.filter(str.strip))
def test_a_text_in_a_line_or_a_list_is_code(text: str) -> None:
    """No text becomes HTML, a link, a picture or a heading there: it is code, and whole."""
    for before in ("", "- "):
        found = tokens(before + as_code(text))
        assert {token.type for token in found} <= {
            *("paragraph_open", "paragraph_close", "inline", "code_inline"),
            *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
        }
        (code,) = (token.content for token in found if token.type == "code_inline")
        assert code.strip(" ") == printable(text).strip(" ")


@given(TEXTS)
def test_a_block_goes_on_behind_what_looks_like_its_end(text: str) -> None:
    """A block of code holds all of the text, and nothing comes after it."""
    (block,) = tokens(as_code_block(text))
    assert block.type == "fence"
    assert block.content == printable_lines(text) + "\n"
