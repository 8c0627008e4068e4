"""Long work says how far it is: never more often than every ten seconds, and at no cost worth the name."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Amount:
    """How much of something; 0 also where it is not known."""

    files: int = 0
    events: int = 0
    size_bytes: int = 0


Report = Callable[[Amount, Amount], None]
"""Takes what is done and what was planned."""


class Progress:
    """Counts what is done, and reports it now and then.

    Args:
        report: called by :meth:`advance`, in its thread; None: nobody wants to know.
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
        """Begin anew with work of this amount. What was reported last stays in mind."""
        self.done = Amount()
        self.planned = Amount(files, events, size_bytes)

    def count(self, *, files: int = 0, events: int = 0, size_bytes: int = 0) -> None:
        """Note what is done, without a report; each of the three by one thread only."""
        done = self.done
        if files:
            done.files += files
        if events:
            done.events += events
        if size_bytes:
            done.size_bytes += size_bytes

    def advance(self, *, files: int = 0, events: int = 0, size_bytes: int = 0) -> None:
        """Note what is done, and report where it is time."""
        self.count(files=files, events=events, size_bytes=size_bytes)
        if self._report is None:
            return
        now = self._clock()
        if now >= self._due:
            self._due = now + self._every_seconds
            self._report(self.done, self.planned)


class RunProgress:
    """How far a whole run is: what each subscriber has, of what the run took upon itself.

    Args:
        planned: subscriber → files, and their bytes as they are stored.
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
        """Note that the subscriber called *name* has so much more, and report where it is time."""
        done = self.done.setdefault(name, Amount())
        done.files += files
        done.events += events
        done.size_bytes += size_bytes
        self._pace.advance()
