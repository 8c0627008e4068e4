"""Separate threads: for libraries that need one, and for those without a timeout."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from export_pipeline.errors import TryLater

T = TypeVar("T")

CLOSING_SECONDS = 5.0


class Overdue(Exception):
    """The work was not done in time."""


class Worker:
    """Does one job after another in one daemon thread, for callers in any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] | None = None
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], T], *, timeout_seconds: float) -> T:
        """Do *work*; returns or raises what it does.

        Raises:
            Overdue: it is not done after *timeout_seconds*, waiting for its turn included. If it was started it
                continues, and the next job waits until it has ended; if not, it is never started.
        """
        asked: Future[T] = Future()
        with self._lock:
            if self._jobs is None:
                self._jobs = SimpleQueue()
                self._thread = threading.Thread(target=_run, args=(self._jobs,), name=self._name, daemon=True)
                self._thread.start()
            self._jobs.put((asked, work))
        if not _is_done(asked, timeout_seconds):
            asked.cancel()
            raise Overdue
        return asked.result()

    def close(self) -> None:
        """End the thread once its jobs are done; waits only a few seconds for one that hangs."""
        with self._lock:
            if self._jobs is not None and self._thread is not None:
                self._jobs.put(None)
                self._thread.join(CLOSING_SECONDS)
            self._jobs, self._thread = None, None


def in_time(work: Callable[[], T], *, timeout_seconds: float, place: str) -> T:
    """Do *work* in a separate thread; returns or raises what it does.

    For clients with timeouts of single reads only, which a slow response could block forever.

    Args:
        place: what *work* waits for, for the message.

    Raises:
        TryLater: it is not done after *timeout_seconds*. It continues, but does not keep the process from exiting.
    """
    asked: Future[T] = Future()
    threading.Thread(target=_answer, args=(asked, work), name=place, daemon=True).start()
    if not _is_done(asked, timeout_seconds):
        raise TryLater(f"{place}: no complete response after timeout_seconds ({timeout_seconds:g})")
    return asked.result()


def _is_done(asked: "Future[Any]", timeout_seconds: float) -> bool:
    done = threading.Event()
    asked.add_done_callback(lambda _: done.set())
    return done.wait(timeout_seconds)


def _run(jobs: "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    while (job := jobs.get()) is not None:
        asked, work = job
        if asked.set_running_or_notify_cancel():
            _answer(asked, work)
        del asked, work, job


def _answer(asked: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        asked.set_result(work())
    except BaseException as error:  # noqa: BLE001 (it is raised again, in the calling thread)
        asked.set_exception(error)
