"""Cutting at line feeds."""

from hypothesis import example, given
from hypothesis import strategies as st

from export_pipeline.source.framed import split_lines


@given(st.lists(st.sampled_from([b"\n", b"\r", b"", b"a", b"\x00", b"\x85", b"{}", b"\xe2\x80\xa8"])).map(b"".join))
@example(b"")
@example(b"\n")
@example(b"a\n\n")
@example(b"a\r\nb")
def test_it_cuts_at_line_feeds_and_nowhere_else(text: bytes) -> None:
    """Lines and rest are what split() finds; a carriage return, or another line separator, does not end a line."""
    lines, rest = split_lines(text)
    assert [*lines, rest] == text.split(b"\n")
