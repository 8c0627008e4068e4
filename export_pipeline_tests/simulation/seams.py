"""Seams: the moments right before each effect of a process, at which it may die, or another one come in between.

Production code knows nothing of them. They come from Python's audit hook (whatever changes the file system), from
SQLAlchemy's events (transactions) and from the stand-ins for what lies outside (:func:`seam`). Inside
:func:`simulation` helper threads work in their caller's thread, the clock is a counter and nobody sleeps, so that a
process does the same in every replay.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, event

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
"""When every simulation begins."""

READ, WRITE = "begin to read", "begin to write"
COMMIT, END, ROLLBACK = "commit", "end of reading", "rollback"
STATEMENT, ANSWER = "statement", "answer"
CALL, TAKEN, CURSOR, MESSAGES = "call", "taken", "cursor", "messages"
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.chmod"}
_LOOKS = {"os.scandir", "os.listdir"}
_WATCHED = {"open"} | _CHANGES | _LOOKS
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NO_CHANGE = ("SELECT", "PRAGMA", "BEGIN", "WITH")
# Locks are not files here: they die with their holder, and which of them are held is no part of a state.
_LOCKS = ".claims"


class Seam(NamedTuple):
    """A moment.

    Attributes:
        kind: what is about to happen; of a receiver's answer, what has.
        label: to what.
        is_effect: whether it changes what a process leaves behind, or what others see.
    """

    kind: str
    label: str
    is_effect: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.label}".strip()


Observer = Callable[[Seam], None]


class _Here(threading.local):
    """Who watches this thread, and what below which folder; nobody, while the simulation looks at its own world."""

    observer: Observer | None = None
    folder = ""
    sleep: Callable[[], None] | None = None


_here = _Here()


class Killed(BaseException):
    """The process dies here. No ``except Exception`` stops it, and :func:`seam` raises it at every later effect."""


@contextmanager
def watching(folder: str, observer: Observer, *, sleep: Callable[[], None] | None = None) -> Iterator[None]:
    """Tell *observer* of each seam of this thread inside the block; *sleep* is called where it would wait."""
    _here.folder, _here.observer, _here.sleep = folder, observer, sleep
    try:
        yield
    finally:
        _here.observer = _here.sleep = None


@contextmanager
def unwatched() -> Iterator[None]:
    """What happens inside the block is the simulation's own doing."""
    observer, _here.observer = _here.observer, None
    try:
        yield
    finally:
        _here.observer = observer


def seam(kind: str, label: str = "", *, is_effect: bool = True) -> None:
    """Be about to do something that others see."""
    observer = _here.observer
    if observer is not None:
        with unwatched():
            observer(Seam(kind, label, is_effect))


def _on_audit(name: str, arguments: tuple[Any, ...]) -> None:
    # Most events are others, such as each call of id().
    if name not in _WATCHED or _here.observer is None:
        return
    if name == "open":
        path, _, flags = arguments
        if isinstance(path, str) and _is_watched(path):
            writes = bool(flags & _TO_WRITE)
            seam("write" if writes else "read", path[len(_here.folder) :], is_effect=writes)
    elif name in _CHANGES:
        path = arguments[0]
        # Relative ones are removed by shutil.rmtree, below a descriptor of the folder.
        if isinstance(path, str) and (_is_watched(path) or not path.startswith("/")):
            seam(name.removeprefix("os."), path.removeprefix(_here.folder))
    elif name in _LOOKS and isinstance(arguments[0], str) and _is_watched(arguments[0]):
        seam("list", arguments[0][len(_here.folder) :], is_effect=False)


def _is_watched(path: str) -> bool:
    return path.startswith(_here.folder) and _LOCKS not in path


def _on_begin(connection: Connection) -> None:
    connection.info["wrote"] = False
    seam(WRITE if writes(connection) else READ, is_effect=False)


def _on_statement(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
    if _here.observer is not None:
        text = " ".join(statement[:60].split())
        connection.info["wrote"] = connection.info.get("wrote") or not text.startswith(_NO_CHANGE)
        if connection.dialect.name == "postgresql":
            # Where it has to wait for another process, somebody must be able to ask the server so.
            driver: Any = connection.connection.driver_connection
            seam(STATEMENT, f"{driver.info.backend_pid} {text}", is_effect=False)


def _on_answer(connection: Connection, *_: Any) -> None:
    if _here.observer is not None and connection.dialect.name == "postgresql":
        seam(ANSWER, is_effect=False)


def _on_commit(connection: Connection) -> None:
    wrote = connection.info.get("wrote", True)
    seam(COMMIT if wrote or writes(connection) else END, is_effect=wrote)


def _on_rollback(connection: Connection) -> None:
    if writes(connection):
        seam(ROLLBACK, is_effect=False)


def writes(connection: Connection) -> bool:
    """Whether the transaction takes SQLite's one lock for writing from its beginning on."""
    return bool(connection.get_execution_options().get("begin_immediate"))


sys.addaudithook(_on_audit)
for _name, _listener in (
    ("begin", _on_begin),
    ("before_cursor_execute", _on_statement),
    ("after_cursor_execute", _on_answer),
    ("commit", _on_commit),
    ("rollback", _on_rollback),
):
    # Of the class, whose listeners come before those of an engine: the product's own sends BEGIN IMMEDIATE.
    event.listen(Engine, _name, _listener)


class Inline:
    """An executor that works at once, in the thread of its caller."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments, **named))
        except Exception as error:  # noqa: BLE001 (as an executor does)
            future.set_exception(error)
        return future

    def map(self, call: Callable[..., Any], *arguments: Iterable[Any]) -> Iterator[Any]:
        return map(call, *arguments)

    def shutdown(self, **_: object) -> None:
        pass

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Clock:
    """A millisecond passes each time the clock is read.

    Attributes:
        ticks: how many have.
        days: how many days more.
    """

    ticks = 0
    days = 0

    @classmethod
    def now(cls) -> datetime:
        """The present moment."""
        cls.ticks += 1
        return NOW + timedelta(days=cls.days, milliseconds=cls.ticks)


@contextmanager
def simulation() -> Iterator[None]:
    """Inside the block the package has no helper threads, tells the time by :class:`Clock`, and does not sleep."""
    real_sleep = time.sleep

    def sleep(seconds: float) -> None:
        if _here.sleep is not None:
            _here.sleep()
        elif _here.observer is None:
            real_sleep(seconds)

    changed: list[tuple[Any, str, Any]] = []

    def change(owner: Any, name: str, value: Any) -> None:
        changed.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    for name, module in list(sys.modules.items()):
        if name.startswith("export_pipeline."):
            if hasattr(module, "ThreadPoolExecutor"):
                change(module, "ThreadPoolExecutor", Inline)
            if hasattr(module, "utc_now"):
                change(module, "utc_now", Clock.now)
    change(time, "sleep", sleep)
    try:
        yield
    finally:
        for owner, name, value in reversed(changed):
            setattr(owner, name, value)
