"""Progress reports of long work, at most one every ten seconds, at negligible cost."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Amount:
    """How much of something; 0 also if unknown."""

    files: int = 0
    events: int = 0
    size_bytes: int = 0


Report = Callable[[Amount, Amount], None]
"""Receives what is done and what was planned."""


class Progress:
    """Counts what is done, and reports it from time to time.

    Args:
        report: called by :meth:`advance`, in its thread; None: no reports.
        every_seconds: the least time between two reports, and before the first one.
        clock: seconds that never go back.

    Attributes:
        done, planned: the amounts so far.
    """

    def __init__(
        self,
        report: Report | None = None,
        *,
        every_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = Amount()
        self.planned = Amount()
        self._report = report
        self._every_seconds = every_seconds
        self._clock = clock
        self._due = clock() + every_seconds

    def begin(self, *, files: int = 0, events: int = 0, size_bytes: int = 0) -> None:
        """Start again with work of this amount. The time until the next report does not change."""
        self.done = Amount()
        self.planned = Amount(files, events, size_bytes)

    def count(self, *, files: int = 0, events: int = 0, size_bytes: int = 0) -> None:
        """Count what is done, without a report; each of the three amounts from one thread only."""
        done = self.done
        if files:
            done.files += files
        if events:
            done.events += events
        if size_bytes:
            done.size_bytes += size_bytes

    def advance(self, *, files: int = 0, events: int = 0, size_bytes: int = 0) -> None:
        """Count what is done, and report if a report is due."""
        self.count(files=files, events=events, size_bytes=size_bytes)
        if self._report is None:
            return
        now = self._clock()
        if now >= self._due:
            self._due = now + self._every_seconds
            self._report(self.done, self.planned)


class RunProgress:
    """Progress of a whole run: what each subscriber has received of what the run took on.

    Args:
        planned: subscriber → files, and their bytes as stored.
        report: called by :meth:`delivered` with what is done and what was planned, by subscriber.
        every_seconds: the least time between two reports, and before the first one.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        planned: Mapping[str, Amount],
        report: Callable[[Mapping[str, Amount], Mapping[str, Amount]], None],
        *,
        every_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.planned = planned
        self.done = {name: Amount() for name in planned}
        self._pace = Progress(lambda *_: report(self.done, planned), every_seconds=every_seconds, clock=clock)

    def delivered(self, name: str, *, files: int, events: int, size_bytes: int) -> None:
        """Count what the subscriber *name* has received in addition, and report if a report is due."""
        done = self.done.setdefault(name, Amount())
        done.files += files
        done.events += events
        done.size_bytes += size_bytes
        self._pace.advance()
