"""Text from outside, made harmless where people read it: on terminals, in logs, in Markdown.

Keys, events and answers may hold whatever their makers like: a line end and a forged line of a log, a sequence that
makes a terminal hide what stands before it, or Markdown that leaves its place.
"""

import re

# What is shown by what it does: control characters (a terminal's escape sequences begin with one), marks that turn the
# direction of writing (https://trojansource.codes), separators of lines, halves of surrogate pairs.
_MARKS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ACTIVE = re.compile(f"[\x00-\x1f\x7f-\x9f{_MARKS}]")
_ACTIVE_IN_A_LINE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_MARKS}]")
_BACKTICKS = re.compile("`+")


def printable(text: str) -> str:
    r"""*text* on one line, with each character that is shown by its effect as Python writes it: ``\x1b``, ``\n``."""
    return _ACTIVE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """As :func:`printable`, but line ends and tabs stay."""
    return _ACTIVE_IN_A_LINE.sub(_escaped, text)


def printable_json(text: str) -> str:
    """*text*, which is JSON, with what only strings can hold of such characters as JSON escapes them."""
    return _ACTIVE_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_code(text: str) -> str:
    """*text* as a code span of Markdown, which nothing in it ends."""
    shown = printable(text)
    marks = "`" * (_longest_run(shown) + 1)
    # https://spec.commonmark.org/0.31.2/#code-spans: one blank on each side is taken away again.
    return f"{marks} {shown} {marks}"


def as_code_block(text: str) -> str:
    """*text* as a fenced block of Markdown, which nothing in it ends."""
    shown = printable_lines(text)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}\n{shown}\n{fence}"


def _escaped(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode()


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)
