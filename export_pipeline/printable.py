"""Escape untrusted text for terminals, logs and Markdown.

Keys, events and answers can contain anything: a line end followed by a forged log line, a terminal escape sequence that
hides other output, or Markdown that breaks out of its context.
"""

import re

# Characters with an effect instead of a glyph: control characters (escape sequences start with one), marks that change
# the text direction (https://trojansource.codes), line separators, unpaired surrogates.
_MARKS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ACTIVE = re.compile(f"[\x00-\x1f\x7f-\x9f{_MARKS}]")
_ACTIVE_IN_A_LINE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_MARKS}]")
_BACKTICKS = re.compile("`+")


def printable(text: str) -> str:
    r"""*text* on one line, with control characters escaped as in Python: ``\x1b``, ``\n``."""
    return _ACTIVE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """As :func:`printable`, but line ends and tabs are kept."""
    return _ACTIVE_IN_A_LINE.sub(_escaped, text)


def printable_json(text: str) -> str:
    """*text*, which is JSON, with such characters, which occur only in strings, as JSON escapes."""
    return _ACTIVE_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_code(text: str) -> str:
    """*text* as a Markdown code span that it cannot break out of."""
    shown = printable(text)
    marks = "`" * (_longest_run(shown) + 1)
    # https://spec.commonmark.org/0.31.2/#code-spans: one space on each side is stripped.
    return f"{marks} {shown} {marks}"


def as_code_block(text: str) -> str:
    """*text* as a fenced Markdown block that it cannot break out of."""
    shown = printable_lines(text)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}\n{shown}\n{fence}"


def _escaped(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode()


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)
