"""Text from outside, such as a key or a destination's answer, so that it is read and never obeyed.

A key may hold a line feed and what looks like a line of the log, an escape sequence that a terminal follows, a
character that turns the reading direction around, or Markdown and HTML, which Dagster's UI renders.
"""

import re

# The control characters of ASCII and Latin-1, all that ends a line, marks and overrides of direction (Unicode's
# Bidi_Control), and halves of surrogate pairs, which no encoding can write.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINE = re.compile(f"[{_CONTROLS}]")
_IN_LINES = re.compile(f"(?![\n\t])[{_CONTROLS}]")


def legible(text: str) -> str:
    r"""*text* on one line; what a terminal or a log would obey stands there as its escape, such as ``\n``."""
    return _IN_LINE.sub(_escaped, text)


def legible_lines(text: str) -> str:
    """The same, but line feeds and tabs stay."""
    return _IN_LINES.sub(_escaped, text)


def legible_json(text: str) -> str:
    """*text*, which is JSON, with the escapes that JSON has for what :func:`legible_lines` escapes."""
    return _IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_code(text: str) -> str:
    """*text* in Markdown, within a line: shown letter by letter, whatever it holds (CommonMark 0.31, 6.1)."""
    shown = legible(text)
    if "`" not in shown and shown.strip():
        return f"`{shown}`"
    fence = "`" * (_longest_run(shown) + 1)
    # A space at both ends is taken off again, and keeps a backtick of the text apart from those around it.
    return f"{fence} {shown} {fence}"


def as_block(text: str) -> str:
    """*text* in Markdown, as a block of its own: shown letter by letter, whatever it holds (CommonMark 0.31, 4.5)."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{legible_lines(text)}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
