"""Count the calls of a subscriber, and the time that they take."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from export_pipeline.errors import TryLater
from export_pipeline.ledger.counters import Counters

A = TypeVar("A")
R = TypeVar("R")


class Meter:
    """Counts calls, also of several threads, until they are taken to be recorded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._calls = self._retries = 0
        self._seconds = 0.0

    def timing(self, call: Callable[[A], R]) -> Callable[[A], R]:
        """*call*, counted and timed, whether it returns or raises."""

        def timed(argument: A) -> R:
            started = self._clock()
            try:
                return call(argument)
            finally:
                took = self._clock() - started
                with self._lock:
                    self._calls += 1
                    self._seconds += took

        return timed

    def waiting(self, on_wait: Callable[[TryLater, float], None] | None) -> Callable[[TryLater, float], None]:
        """*on_wait*, which is called before each repeated call, counted as a retry."""

        def counted(error: TryLater, seconds: float) -> None:
            with self._lock:
                self._retries += 1
            if on_wait is not None:
                on_wait(error, seconds)

        return counted

    def take(self, more: Counters) -> Counters:
        """*more* with what was counted since this was last called."""
        with self._lock:
            taken = replace(more, calls=self._calls, retries=self._retries, call_seconds=self._seconds)
            self._calls = self._retries = 0
            self._seconds = 0.0
        return taken
