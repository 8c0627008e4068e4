"""Files, manifests, batches, deliveries and subscriptions of the ledger, as plain values."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import NamedTuple

from export_pipeline.source.file import ReadLimits, SourceFile

Ranges = tuple[tuple[int, int], ...]


class DatedFile(NamedTuple):
    """A file and the day that its key encodes."""

    file: SourceFile
    day: date


@dataclass(frozen=True, slots=True)
class Run:
    """Who writes in the ledger, and when.

    Attributes:
        id: of Dagster's run, or a name for a command that the user gave.
        now: the moment, aware, that what is written is dated by.
    """

    id: str
    now: datetime


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """How files are grouped and later cut. The cutting limits are part of a manifest's identity.

    Attributes:
        max_events: most events per batch.
        max_bytes: most NDJSON bytes per batch.
        manifest_max_files: most files per manifest.
        manifest_max_bytes: most stored bytes per manifest, so that staging stays small; a larger file is alone in one.
    """

    max_events: int
    max_bytes: int
    manifest_max_files: int
    manifest_max_bytes: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscriber of one source, as the ledger knows it.

    Attributes:
        start_day: files of earlier days are not owed; None: no limit.
        start_at: files that arrived earlier are not owed; None: no limit.
    """

    id: int
    name: str
    start_day: date | None
    start_at: datetime | None

    def owes(self, file: SourceFile, day: date) -> bool:
        """Whether *file*, of *day*, is within this subscription."""
        if self.start_day is not None and day < self.start_day:
            return False
        return self.start_at is None or file.last_modified >= self.start_at

    @property
    def first_day(self) -> date | None:
        """The earliest day that can contain an owed file, as far as is known; None: any."""
        return self.start_day or (self.start_at.date() if self.start_at else None)


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file of a part.

    Attributes:
        file: if the file of a folded manifest is gone and only its fingerprint is left, a file without a key, and with
            the fingerprint as its etag; see :func:`is_nameless`.
        ranges: which of its events belong to the part, by their numbers from 0: the first of each range, and the one
            after its last; None: all of them.
    """

    file: SourceFile
    ranges: Ranges | None = None


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """One batch of a manifest, as it was cut.

    Attributes:
        crc32: of the NDJSON bytes: a second reading must give the same.
        file_positions: indexes into the manifest's files.
    """

    n: int
    events: int
    size_bytes: int
    crc32: int
    file_positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadingResult:
    """The result of a reading. events_framed = events in batches + events_quarantined.

    Attributes:
        events_of_files: how many events of each file, in order, are in batches; None: unknown.
        limits: limits of the reading; None: unknown.
    """

    batches: tuple[LedgerBatch, ...]
    bytes_unpacked: int
    events_framed: int
    events_quarantined: int
    events_of_files: tuple[int, ...] | None = None
    limits: ReadLimits | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Events of one delivery: their sum is the number of events in the manifest's batches."""

    accepted: int
    refused: int
    filtered: int


def dump_part_files(files: Iterable[PartFile]) -> str:
    """*files* as they are stored in the ledger."""
    rows = [
        [one.file.key, one.file.etag, one.file.size_bytes, one.file.last_modified.timestamp(), one.ranges]
        for one in files
    ]
    return json.dumps(rows, separators=(",", ":"))


def load_part_files(text: str) -> list[PartFile]:
    """The inverse of :func:`dump_part_files`."""
    return [
        PartFile(
            SourceFile(key, etag, size_bytes, datetime.fromtimestamp(modified, timezone.utc)),
            None if ranges is None else tuple((start, stop) for start, stop in ranges),
        )
        for key, etag, size_bytes, modified, ranges in json.loads(text)
    ]


def nameless(fingerprint: bytes) -> PartFile:
    """A folded file that is gone."""
    return PartFile(SourceFile("", fingerprint.hex(), 0, datetime.fromtimestamp(0, timezone.utc)))


def is_nameless(file: SourceFile) -> bool:
    """Whether only the fingerprint of the file is known."""
    return not file.key
