"""Makes text from outside harmless where people read it: on terminals, in logs, in Markdown.

Keys, events and responses may contain anything: a line end and a forged log line, an escape sequence that makes a
terminal hide preceding text, or Markdown that breaks out of its place.
"""

import re

# Characters that have an effect instead of a shape: control characters (terminal escape sequences begin with one),
# bidirectional marks (https://trojansource.codes), line separators, lone surrogates.
_MARKS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ACTIVE = re.compile(f"[\x00-\x1f\x7f-\x9f{_MARKS}]")
_ACTIVE_IN_A_LINE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_MARKS}]")
_BACKTICKS = re.compile("`+")


def printable(text: str) -> str:
    r"""*text* on one line, with each such character written as Python escapes it: ``\x1b``, ``\n``."""
    return _ACTIVE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """As :func:`printable`, but line ends and tabs stay."""
    return _ACTIVE_IN_A_LINE.sub(_escaped, text)


def printable_json(text: str) -> str:
    """*text*, which is JSON, with those of these characters that only strings can contain as JSON escapes."""
    return _ACTIVE_IN_A_LINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_code(text: str) -> str:
    """*text* as a Markdown code span that nothing in the text can end."""
    shown = printable(text)
    marks = "`" * (_longest_run(shown) + 1)
    # https://spec.commonmark.org/0.31.2/#code-spans: one space on each side is stripped.
    return f"{marks} {shown} {marks}"


def as_code_block(text: str) -> str:
    """*text* as a fenced Markdown code block that nothing in the text can end."""
    shown = printable_lines(text)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}\n{shown}\n{fence}"


def _escaped(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode()


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)
