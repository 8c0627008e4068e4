"""The world of a simulation: what lies outside the process that dies, and can be saved and put back.

A folder holds the bucket, the ledger, staging and quarantine; :class:`Outside` holds the rest, such as what subscribers
have received. Of each event the world knows in which version of which file it is, so that :mod:`.truths` needs no
ledger to tell what must have come to whom.
"""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import pickle
import shutil
import sqlite3
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import PlanLimits
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.layout import Layout
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import open_source
from export_pipeline.steps.discover import DiscoverySettings
from export_pipeline.steps.open import Workspace
from export_pipeline.storage.objects import open_objects
from export_pipeline.storage.settings import StoreSettings
from export_pipeline_tests.simulation.seams import NOW, Clock, unwatched

REFUSED_MARK = "!"
"""What the name of an event ends in that some subscribers refuse."""


@dataclass(frozen=True)
class Version:
    """One content of a file.

    Attributes:
        events: their names.
        is_valid: the file can be read.
        is_there: it is what the bucket has under the key now.
        garbage: how many lines of it are no event.
    """

    key: str
    number: int
    events: tuple[str, ...]
    is_valid: bool
    is_there: bool
    garbage: int

    @property
    def day(self) -> date:
        """The day that its key tells."""
        return date.fromisoformat(self.key[:10].replace("/", "-"))


@dataclass(frozen=True)
class Mood:
    """How a subscriber answers.

    Attributes:
        refuses: marked events: not, by their ``index``, or as a ``whole`` batch that holds one.
        later: how many calls it puts off.
        loses: how many answers get lost after it took the batch.
        only: the kind of events that it wants; empty: all.
        is_down: it takes nothing.
    """

    refuses: str = ""
    later: int = 0
    loses: int = 0
    only: str = ""
    is_down: bool = False


@dataclass(frozen=True)
class Rules:
    """The deployment file."""

    max_events: int = 2
    manifest_max_files: int = 100
    max_files: int = 100
    max_attempts: int = 3
    keep_days: int | None = None
    in_flight: int = 1
    on_overwrite: str = "read"
    limits: ReadLimits = field(default_factory=ReadLimits)
    start_date: date = date(2020, 1, 1)


class Receipt(NamedTuple):
    """A batch that a subscriber has taken."""

    subscriber: str
    batch: str
    events: tuple[str, ...]


@dataclass
class Outside:
    """What is no file.

    Attributes:
        cursor: of the sensor ``new_files``.
        subscribers: name → since.
        received: how often each batch came.
        wanted_again: subscriber and event → how often it must have come in the end, since a replay asked for it.
        filtered: subscriber and event, where the subscriber did not want it when it was its turn.
        crashes, lost_answers: why a batch may come twice.
        replays: and the days (none: all) and subscribers (none: all) for which that was asked for.
        troubled: keys that could not be read, or were gone, at some time.
        runs: how many there were.
        retries: how often the quarantine was asked to try again.
        days: how much later it is than when all began.
        done: what commands reported, for scenarios that want to know.
    """

    cursor: str = ""
    subscribers: dict[str, str | None] = field(default_factory=lambda: {"a": None, "b": None})
    moods: dict[str, Mood] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    versions: list[Version] = field(default_factory=list)
    received: Counter[Receipt] = field(default_factory=Counter)
    wanted_again: dict[tuple[str, str], int] = field(default_factory=dict)
    filtered: set[tuple[str, str]] = field(default_factory=set)
    crashes: int = 0
    lost_answers: int = 0
    replays: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    troubled: set[str] = field(default_factory=set)
    runs: int = 0
    retries: int = 0
    days: int = 0
    done: Counter[str] = field(default_factory=Counter)
    ticks: int = 0

    def times(self) -> Counter[tuple[str, str]]:
        """Subscriber and event → how often it came."""
        found: Counter[tuple[str, str]] = Counter()
        for one, times in self.received.items():
            for event in one.events:
                found[one.subscriber, event] += times
        return found


class Saved(NamedTuple):
    """A state of the world: path → (bytes, None for a folder; time of change), and what is not a file."""

    files: dict[str, tuple[bytes | None, int]]
    outside: bytes


class World:
    """The folder *root*, and what is beside it.

    Attributes:
        failures: what the latest command could not do, as it told.
        surprises: errors that are none of the package's own.
        under_way: runs that Dagster would say are running.
    """

    def __init__(self, root: Path, ledger_url: str = "") -> None:
        self.root = root
        self.bucket = root / "bucket"
        self.ledger_url = ledger_url or f"sqlite:///{root}/ledger.db"
        self.outside = Outside()
        self.failures: list[str] = []
        self.surprises: list[str] = []
        self.under_way: set[str] = set()
        self._open: list[Ledger] = []
        self._idle: list[Ledger] = []
        self.bucket.mkdir(parents=True, exist_ok=True)

    # What processes work with ------------------------------------------------------------------------------------

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A new process's places."""
        ledger = self._ledger()
        self._open.append(ledger)
        try:
            yield Workspace(
                source=open_source(SourceSettings(url=str(self.bucket))),
                ledger=ledger,
                staging=Staging(open_objects(str(self.root / "staging"), StoreSettings(), private=True)),
                quarantine=Quarantine(open_objects(str(self.root / "quarantine"), StoreSettings(), private=True)),
                limits=self.outside.rules.limits,
                max_attempts=self.outside.rules.max_attempts,
            )
        finally:
            self._release(ledger)

    def _ledger(self) -> Ledger:
        """An engine without connections: for a new one SQLAlchemy would compile every statement again."""
        path = self.root / "ledger.db"
        has_schema = not self.ledger_url.startswith("sqlite") or (path.exists() and path.stat().st_size > _EMPTY_BYTES)
        return self._idle.pop() if self._idle and has_schema else Ledger(self.ledger_url)

    def _release(self, ledger: Ledger) -> None:
        with unwatched():
            ledger.close()
        if ledger in self._open:
            self._open.remove(ledger)
            self._idle.append(ledger)

    def close(self) -> None:
        """Let go of everything."""
        for ledger in [*self._open, *self._idle]:
            ledger.close()

    def discovery_settings(self) -> DiscoverySettings:
        """How files are found and grouped."""
        rules = self.outside.rules
        return DiscoverySettings(
            layout=Layout("%Y/%m/%d"),
            start_date=rules.start_date,
            lookback=timedelta(hours=26),
            on_overwrite=rules.on_overwrite,
            start_from="beginning",
            limits=PlanLimits(
                max_events=rules.max_events,
                max_bytes=1 << 20,
                manifest_max_files=rules.manifest_max_files,
                manifest_max_bytes=1 << 28,
            ),
            prefix="",
        )

    # What happens outside ----------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        events: int = 2,
        *,
        framing: str = "lines",
        corrupt: bool = False,
        marked: int = 0,
        garbage: int = 0,
    ) -> None:
        """A new content under *key*.

        Args:
            events: how many.
            framing: one of :data:`FRAMINGS`.
            corrupt: the file cannot be read.
            marked: how many events, the last ones, are such as some subscribers refuse.
            garbage: how many lines behind them are no event.
        """
        number = sum(1 for one in self.outside.versions if one.key == key)
        self.remove(key)
        names = [f"{key}@{number}.{n}{REFUSED_MARK * (n >= events - marked)}" for n in range(events)]
        lines = [json.dumps({"n": name, "kind": KINDS[n % 2]}).encode() for n, name in enumerate(names)]
        lines += [f"garbage {key}@{number}.{n}".encode() for n in range(garbage)]
        data = b"\x1f\x8b\x08\x00broken %d" % number if corrupt else FRAMINGS[framing](lines)
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        seconds = int((NOW - timedelta(days=1)).timestamp()) + len(self.outside.versions)
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9))
        if corrupt:
            self.outside.troubled.add(key)
        events_there = () if corrupt or framing == "empty" else tuple(names)
        self.outside.versions.append(Version(key, number, events_there, not corrupt, is_there=True, garbage=garbage))

    def remove(self, key: str) -> None:
        """The file under *key* is gone, if there was one."""
        if (self.bucket / key).exists():
            (self.bucket / key).unlink()
            self.outside.troubled.add(key)
        self.outside.versions = [
            replace(one, is_there=False) if one.key == key else one for one in self.outside.versions
        ]

    def wipe(self, pattern: str) -> None:
        """The files that match *pattern* are gone."""
        for path in self.root.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    # States ------------------------------------------------------------------------------------------------------

    def save(self) -> Saved:
        """All that a SIGKILL at this moment would leave."""
        self.outside.ticks = Clock.ticks
        return Saved(dict(_files(str(self.root))), pickle.dumps(self.outside))

    def restore(self, saved: Saved) -> None:
        """Go back, with no process alive."""
        for ledger in list(self._open):
            self._release(ledger)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        for path, (data, modified) in saved.files.items():
            if data is None:
                os.makedirs(path, exist_ok=True)
                continue
            with open(path, "wb", buffering=0) as file:
                file.write(data)
            os.utime(path, ns=(modified, modified))
        self.outside = pickle.loads(saved.outside)
        Clock.ticks, Clock.days = self.outside.ticks, self.outside.days
        self.failures, self.surprises, self.under_way = [], [], set()

    def fingerprint(self) -> bytes:
        """The same for two states that lead to the same: times count by their order, names of runs not at all."""
        digest = hashlib.blake2b(digest_size=16)
        for table in ledger_rows(self.root / "ledger.db"):
            digest.update(repr(table).encode())
        for path, (data, _) in sorted(_files(str(self.root))):
            if data is not None and not path.endswith(".tmp") and "/ledger.db" not in path:
                digest.update(path.encode() + data)
        digest.update(repr(plain(self.outside)).encode())
        return digest.digest()


_EMPTY_BYTES = 60_000
KINDS = ("view", "click")


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _zipped(lines: list[bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("events.ndjson", _joined(lines))
    return out.getvalue()


def _zstd(lines: list[bytes]) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(_joined(lines))


FRAMINGS: dict[str, Callable[[list[bytes]], bytes]] = {
    "lines": _joined,
    "no line feed at the end": b"\n".join,
    "CRLF": lambda lines: b"".join(line + b"\r\n" for line in lines),
    "concatenated": b"".join,
    "blank lines": lambda lines: b"\n\n" + b"\n\n\n".join(lines) + b"\n\n",
    "byte order mark": lambda lines: b"\xef\xbb\xbf" + _joined(lines),
    "gzip": lambda lines: gzip.compress(_joined(lines), mtime=0),
    "gzip members": lambda lines: b"".join(gzip.compress(line + b"\n", mtime=0) for line in lines),
    "zstd": _zstd,
    "bzip2": lambda lines: bz2.compress(_joined(lines)),
    "xz": lambda lines: lzma.compress(_joined(lines)),
    "zip": _zipped,
    "empty": lambda _: b"",
}


def _files(folder: str) -> Iterator[tuple[str, tuple[bytes | None, int]]]:
    """Path → bytes and time of change; without locks, and without what SQLite recreates."""
    for entry in os.scandir(folder):
        if entry.name.endswith((".claims", "-shm")):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield entry.path, (None, 0)
            yield from _files(entry.path)
        else:
            with open(entry.path, "rb", buffering=0) as file:
                yield entry.path, (file.read(), entry.stat().st_mtime_ns)


def ledger_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each table of an SQLite ledger, as returned by :func:`canonical_rows`; nothing if it has no schema yet."""
    if not path.exists() or path.stat().st_size < _EMPTY_BYTES:
        return
    tables: dict[str, tuple[list[str], list[Any]]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
            found = connection.execute(f"SELECT * FROM {name}")
            tables[name] = [column[0] for column in found.description], found.fetchall()
    yield from canonical_rows(tables)


def canonical_rows(tables: Mapping[str, tuple[list[str], list[Any]]]) -> Iterator[tuple[str, list[str]]]:
    """Each table with its rows, times told by their order; *tables*: name → columns and rows."""
    times = {
        value
        for columns, rows in tables.values()
        for row in rows
        for column, value in zip(columns, row, strict=True)
        if column.endswith("_at") and value
    }
    order = {moment: number for number, moment in enumerate(sorted(times))}
    for name, (columns, rows) in tables.items():
        yield name, sorted(repr([_canonical(*cell, order) for cell in zip(columns, row, strict=True)]) for row in rows)


def _canonical(column: str, value: Any, order: Mapping[Any, int]) -> Any:
    if column.endswith("_at") and value:
        return order[value]
    return bool(value) if "run" in column else value


def plain(outside: Outside) -> list[Any]:
    """What is not a file, without what makes no difference to the outcome."""
    skipped = ("ticks", "runs", "done")
    return [
        sorted(value.items() if isinstance(value, dict) else value, key=repr)
        if isinstance(value, dict | set)
        else value
        for name, value in vars(outside).items()
        if name not in skipped
    ]
