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
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from export_pipeline_tests.simulation.canonical import EMPTY_BYTES, ledger_rows
from export_pipeline_tests.simulation.seams import NOW, Clock, unwatched

BUCKET = "bucket"
"""What messages call the bucket."""

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
    is_notified: bool = False


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
        messages: id → body, of those that wait in the source's queue.
        subscribers: name → since.
        received: how often each batch came.
        wanted_again: subscriber and event → how often it must still come, since a replay asked for it.
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
    messages: dict[str, str] = field(default_factory=dict)
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
    dismissals: int = 0
    days: int = 0
    done: Counter[str] = field(default_factory=Counter)
    ticks: int = 0

    @property
    def slack(self) -> int:
        """How many batches may still come again: for each death those in flight, and one for each lost answer."""
        repeats: Counter[tuple[str, str]] = Counter()
        for one, times in self.received.items():
            day = one.events[0][:10].replace("/", "-")
            asked = sum(
                1 for of, names in self.replays if of in ("", day) and one.subscriber in (names or [one.subscriber])
            )
            planned = one.subscriber, "-".join(one.batch.split("-")[:2])
            repeats[planned] = max(repeats[planned], times - 1 - asked)
        return self.crashes * self.rules.in_flight + self.lost_answers - repeats.total()

    def receive(self, receipt: Receipt) -> None:
        """A subscriber takes a batch."""
        self.received[receipt] += 1
        for event in receipt.events:
            if (wanted := self.wanted_again.pop((receipt.subscriber, event), 0)) > 1:
                self.wanted_again[receipt.subscriber, event] = wanted - 1


class File(NamedTuple):
    """What lies under one path.

    Attributes:
        data: None: it is a folder.
        changed_ns: when it was, as the system tells.
        inode: of a file that lies under several paths; 0: this is the only one.
    """

    data: bytes | None
    changed_ns: int = 0
    inode: int = 0


Files = dict[str, File]


class Saved(NamedTuple):
    """A state of the world.

    Attributes:
        outside: what is no file.
        digest: the same for two states that lead to the same: times count by their order, names of runs and the number
            of crashes not at all.
        slack: of :class:`Outside`.
        rows: of a ledger that is no file.
    """

    files: Files
    outside: bytes
    digest: bytes
    slack: int
    rows: bytes = b""


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
        self._known_ledger: tuple[list[bytes | None], bytes] = [], b""
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
                on_overwrite=self.outside.rules.on_overwrite,
            )
        finally:
            self._release(ledger)

    def _ledger(self) -> Ledger:
        """One without connections: for a new engine SQLAlchemy would compile every statement anew."""
        path = self.root / "ledger.db"
        has_schema = not self.ledger_url.startswith("sqlite") or (path.exists() and path.stat().st_size > EMPTY_BYTES)
        return self._idle.pop() if self._idle and has_schema else Ledger(self.ledger_url)

    def _release(self, ledger: Ledger) -> None:
        with unwatched():
            ledger.close()
        if ledger in self._open:
            self._open.remove(ledger)
            self._idle.append(ledger)

    def lend(self) -> Ledger:
        """A ledger for a command that opens its own; taken back when all is restored."""
        self._open.append(self._ledger())
        return self._open[-1]

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
        keeps: int = 0,
        messages: int = 1,
    ) -> None:
        """A new content under *key*.

        Args:
            events: how many.
            framing: one of :data:`FRAMINGS`.
            corrupt: the file cannot be read.
            marked: how many events, the last ones, are such as some subscribers refuse.
            garbage: how many lines behind them are no event.
            keeps: how many events, the first ones, the content before had as well.
            messages: how many tell of it, where the bucket tells of new files at all.
        """
        number = sum(1 for one in self.outside.versions if one.key == key)
        self.remove(key)
        names = [f"{key}@{number}.{n}{REFUSED_MARK * (n >= events - marked)}" for n in range(events)]
        if keeps:
            (before,) = (one for one in self.outside.versions if (one.key, one.number) == (key, number - 1))
            names[:keeps] = before.events[:keeps]
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
        if self.outside.rules.is_notified:
            found = open_source(SourceSettings(url=str(self.bucket))).find_file(key)
            assert found is not None
            about = {"key": key, "size": len(data), "eTag": found.etag}
            record = {"eventName": "ObjectCreated:Put", "eventTime": f"{found.last_modified:%Y-%m-%dT%H:%M:%S.000Z}"}
            body = json.dumps({"Records": [{**record, "s3": {"bucket": {"name": BUCKET}, "object": about}}]})
            self.outside.messages.update({f"{key}@{number}.{n}": body for n in range(messages)})

    def remove(self, key: str) -> None:
        """The file under *key* is gone, if there was one."""
        if (self.bucket / key).exists():
            (self.bucket / key).unlink()
            self.outside.troubled.add(key)
        self.outside.versions = [
            replace(one, is_there=False) if one.key == key else one for one in self.outside.versions
        ]

    def wipe(self, pattern: str) -> None:
        """What lies under *pattern* is gone."""
        for path in self.root.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    # States ------------------------------------------------------------------------------------------------------

    def save(self) -> Saved:
        """All that a SIGKILL at this moment would leave."""
        self.outside.ticks = Clock.ticks
        files = dict(_files(str(self.root)))
        return Saved(files, pickle.dumps(self.outside), self._digest(files), self.outside.slack)

    def restore(self, saved: Saved) -> None:
        """Go back, with no process alive."""
        for ledger in list(self._open):
            self._release(ledger)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        linked: dict[int, str] = {}
        for path, (data, changed_ns, inode) in saved.files.items():
            if data is None:
                os.makedirs(path, exist_ok=True)
            elif inode and (other := linked.setdefault(inode, path)) != path:
                os.link(other, path)
            else:
                with open(path, "wb", buffering=0) as file:
                    file.write(data)
                os.utime(path, ns=(changed_ns, changed_ns))
        self.outside = pickle.loads(saved.outside)
        Clock.ticks, Clock.days = self.outside.ticks, self.outside.days
        self.failures, self.surprises, self.under_way = [], [], set()

    def _digest(self, files: Files) -> bytes:
        digest = hashlib.blake2b(self._ledger_digest(files), digest_size=16)
        for path, (data, _, inode) in sorted(files.items()):
            if data is not None and not path.endswith(".tmp") and "/ledger.db" not in path:
                digest.update(path.encode() + data + bytes([inode > 0]))
        digest.update(repr(plain(self.outside)).encode())
        return digest.digest()

    def _ledger_digest(self, files: Files) -> bytes:
        # Between two transactions it is the same.
        raw = [files.get(f"{self.root}/ledger.db{ending}", File(None)).data for ending in ("", "-wal")]
        if raw != self._known_ledger[0]:
            self._known_ledger = raw, repr(list(ledger_rows(self.root / "ledger.db"))).encode()
        return self._known_ledger[1]


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


def _files(folder: str) -> Iterator[tuple[str, File]]:
    """What is below a folder; without locks, and without what SQLite makes anew."""
    for entry in os.scandir(folder):
        if entry.name.endswith((".claims", "-shm")):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield entry.path, File(None)
            yield from _files(entry.path)
        else:
            found = entry.stat()
            with open(entry.path, "rb", buffering=0) as file:
                yield entry.path, File(file.read(), found.st_mtime_ns, found.st_ino if found.st_nlink > 1 else 0)


def plain(outside: Outside) -> list[Any]:
    """What is no file, without what makes no difference to what comes; :attr:`Outside.slack` tells the rest."""
    skipped = ("ticks", "runs", "done", "crashes", "received")
    return [
        sorted(value.items() if isinstance(value, dict) else value, key=repr)
        if isinstance(value, dict | set)
        else value
        for name, value in vars(outside).items()
        if name not in skipped
    ] + [sorted(outside.received)]
