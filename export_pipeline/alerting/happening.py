"""What happened to an export, before anybody decides whom to tell."""

from dataclasses import dataclass
from typing import Literal

INFO, WARNING, ERROR, CRITICAL = 20, 30, 40, 50
LEVELS = {"info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
"""The names that a deployment file uses → the numbers of Python's logging."""

Kind = Literal["info", "success", "warning", "failure"]
"""How a message looks where it arrives: apprise's notification types."""


@dataclass(frozen=True, slots=True)
class Failing:
    """Something that failed and may fail again.

    Attributes:
        key: the same for the same problem, such as ``export_job/deliver_to_crm``.
        label: what failed, for "… recovered".
        text: what went wrong, one or more lines.
        is_lasting: it goes on until something says that it is fine; otherwise it is told whenever it happens.
    """

    key: str
    level: int
    label: str
    text: str
    is_lasting: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the event log.

    Attributes:
        key: the same for the same sentence with other numbers.
        text: as it is shown, without its level.
    """

    key: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Happening:
    """A run, tick, backfill or check that ended.

    Attributes:
        subject: what it is, such as ``run 1a2b3c4d of export_job``.
        path: its page in Dagster's UI, such as ``/runs/…``; empty: it has none.
        problems, lines: what it came with.
        fine: keys that are all right again; one that ends with a slash stands for all that begin with it.
        over: keys that need not be remembered any more, though nobody is told; in the same way.
    """

    subject: str
    path: str = ""
    problems: tuple[Failing, ...] = ()
    lines: tuple[Line, ...] = ()
    fine: tuple[str, ...] = ()
    over: tuple[str, ...] = ()


def covers(pattern: str, key: str) -> bool:
    """Whether *pattern*, an entry of ``fine`` or ``over``, stands for *key*."""
    return key == pattern or (pattern.endswith("/") and key.startswith(pattern))


_LONGEST_TITLE = 200
# Discord takes 2,000 characters, and an alert that has more to say says where to look.
_LONGEST_BODY = 1_500
_LONGEST_LINE = 400
_NAMES = {INFO: "info", WARNING: "warning", ERROR: "error", CRITICAL: "critical"}


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """One message, the same for every service."""

    title: str
    body: str
    kind: Kind


def compose(title: str, text: str, *, kind: Kind, link: str = "") -> AlertMessage:
    """A message of at most 1,500 characters: what is too long is cut, and the link is kept."""
    lines = [_cut(line, _LONGEST_LINE) for line in text.splitlines()]
    room = _LONGEST_BODY - len(link) - 40
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    if len(kept) < len(lines):
        kept.append(f"… and {len(lines) - len(kept)} more lines")
    body = "\n".join([*kept, *([link] if link else [])])
    return AlertMessage(_cut(" ".join(title.split()), _LONGEST_TITLE), body or title, kind)


def kind_of(level: int) -> Kind:
    """How a message of this level looks."""
    if level >= ERROR:
        return "failure"
    return "warning" if level >= WARNING else "info"


def name_of(level: int) -> str:
    """The level's name: that of the nearest one below, where it is none of the four."""
    return _NAMES[max((known for known in _NAMES if known <= level), default=INFO)]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
