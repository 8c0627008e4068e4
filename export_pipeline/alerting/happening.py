"""What happened to an export, before anybody decides whom to tell."""

from dataclasses import dataclass
from typing import Literal

INFO, WARNING, ERROR, CRITICAL = 20, 30, 40, 50
LEVELS = {"info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
"""The names that a deployment file uses → the numbers of Python's logging."""

Kind = Literal["info", "success", "warning", "failure"]
"""How a message looks where it arrives: apprise's notification types."""


@dataclass(frozen=True, slots=True)
class Problem:
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
    problems: tuple[Problem, ...] = ()
    lines: tuple[Line, ...] = ()
    fine: tuple[str, ...] = ()
    over: tuple[str, ...] = ()


def covers(pattern: str, key: str) -> bool:
    """Whether *pattern*, an entry of ``fine`` or ``over``, stands for *key*."""
    return key == pattern or (pattern.endswith("/") and key.startswith(pattern))
