"""What happened to an export (problems, log lines, recoveries), and the message that reports it."""

from dataclasses import dataclass
from typing import Literal

INFO, WARNING, ERROR, CRITICAL = 20, 30, 40, 50
LEVELS = {"info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
"""The names that a deployment file uses → the numbers of Python's logging."""

Kind = Literal["info", "success", "warning", "failure"]
"""How a service displays a message: apprise's notification types."""
_LONGEST_TITLE = 200
# Discord accepts 2,000 characters; a longer alert is truncated and has a link to the run.
_LONGEST_BODY = 1_500
_LONGEST_LINE = 400
_NAMES = {INFO: "info", WARNING: "warning", ERROR: "error", CRITICAL: "critical"}


@dataclass(frozen=True, slots=True)
class Failing:
    """Something that failed, and that can fail again.

    Attributes:
        key: identifies the problem, such as ``export_job/deliver_to_crm``.
        label: what failed, for "… recovered".
        text: what went wrong, one or more lines.
        is_lasting: it stays open until a recovery; otherwise each occurrence is sent.
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
        key: the same for lines that differ only in numbers.
        text: the line without its level.
    """

    key: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Happening:
    """A run, tick, backfill or check that ended.

    Attributes:
        subject: its name, such as ``run 1a2b3c4d of export_job``.
        path: its page in Dagster's UI, such as ``/runs/…``; empty if there is none.
        problems, lines: what it reported.
        fine: keys of problems that are resolved; a key that ends in a slash is a prefix.
        over: keys to forget without sending a recovery; also keys or prefixes.
        is_heartbeat: a run of export_job ended well.
    """

    subject: str
    path: str = ""
    problems: tuple[Failing, ...] = ()
    lines: tuple[Line, ...] = ()
    fine: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    is_heartbeat: bool = False


def covers(pattern: str, key: str) -> bool:
    """Whether *pattern*, an entry of ``fine`` or ``over``, matches *key*."""
    return key == pattern or (pattern.endswith("/") and key.startswith(pattern))


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """One message, the same for every service."""

    title: str
    body: str
    kind: Kind


def compose(title: str, text: str, *, kind: Kind, link: str = "") -> AlertMessage:
    """A message of at most 1,500 characters: longer text is truncated, the link is kept."""
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
    """How a message of this level is displayed."""
    if level >= ERROR:
        return "failure"
    return "warning" if level >= WARNING else "info"


def name_of(level: int) -> str:
    """The name of a level; for a custom level that of the next lower one."""
    return _NAMES[max((known for known in _NAMES if known <= level), default=INFO)]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
