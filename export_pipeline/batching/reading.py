"""Reads a manifest: from files as stored to batches, with the counts that prove that no byte was lost."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import partial, reduce
from typing import TypeVar

from isal import isal_zlib

from export_pipeline.batching.cutter import BatchLimits, CutBatch, Cutter
from export_pipeline.batching.quarantine import ManifestQuarantine, Quarantine
from export_pipeline.batching.record import Kept
from export_pipeline.errors import AccountingError
from export_pipeline.printable import printable
from export_pipeline.source.blame import blaming
from export_pipeline.source.checker import Checker
from export_pipeline.source.compression import PIECE_BYTES, decompress
from export_pipeline.source.file import ReadLimits, SourceFile
from export_pipeline.source.framed import BadStretch, Framed, Lines, Tally, split_lines
from export_pipeline.source.framing import Framer

Item = TypeVar("Item")

Ranges = tuple[tuple[int, int], ...]
"""Events of a file by their numbers from 0: the first of each range, and the one after its last."""

_Piece = tuple[SourceFile, bytes | None]
"""A file, and its next bytes; None after the last ones."""

_LOADS_AHEAD = 1


def ahead(items: Iterator[Item], *, depth: int) -> Generator[Item, None, None]:
    """The same items, none of which is None, in the same order; a thread takes up to *depth* of them in advance.

    What *items* raises is raised at its turn. When this generator ends or is closed, the thread has ended, too.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = deque(pool.submit(next, items, None) for _ in range(depth))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """One batch in staging.

    Attributes:
        n: position in the manifest, from 0.
        id: ``<manifest>-<n>``.
        events: number of lines, at least 1.
        size_bytes: of the NDJSON, uncompressed.
        crc32: of the NDJSON, uncompressed.
        files: keys of the files that the events come from, in reading order.
    """

    n: int
    id: str
    events: int
    size_bytes: int
    crc32: int
    files: tuple[str, ...]


Stage = Callable[[StagedBatch, Sequence[bytes | memoryview]], None]


@dataclass(frozen=True, slots=True)
class FileReading:
    """What happened to one file: ``bytes_unpacked`` = ``bytes_events`` + ``bytes_separators`` + ``bytes_quarantined``.

    Attributes:
        bytes_unpacked: after decompression.
        bytes_events: of events as they are in the file, including white space inside them.
        bytes_separators: line ends, white space, byte order marks and an array's brackets and commas between events.
        bytes_quarantined: of stretches that are not events.
        events: number of events put into batches.
        quarantined: number of stretches put into the quarantine.
        left_out: number of events that were not requested; they are included in ``events``.
    """

    key: str
    etag: str
    bytes_stored: int
    bytes_unpacked: int
    bytes_events: int
    bytes_separators: int
    bytes_quarantined: int
    events: int
    quarantined: int
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class ManifestReading:
    """All of one manifest: ``events_framed`` = ``events_batched`` + ``events_quarantined``.

    Attributes:
        batches: in order; empty if the files contain no event.
        events_framed: events and malformed records that framing found, except events that were not requested.
        events_batched: events in ``batches``, counted by the cutter.
        events_quarantined: records written to the quarantine, counted by the quarantine.
        bytes_unpacked: of all files.
        files: one for each file of the manifest, in order.
        kept: what the quarantine keeps now, by file.
    """

    batches: tuple[StagedBatch, ...]
    events_framed: int
    events_batched: int
    events_quarantined: int
    bytes_unpacked: int
    files: tuple[FileReading, ...]
    kept: tuple[Kept, ...] = ()


def read_manifest(
    *,
    files: Iterable[tuple[SourceFile, Iterator[bytes]]],
    manifest_id: str,
    day: date,
    stage: Stage,
    quarantine: Quarantine | None,
    batch_limits: BatchLimits,
    read_limits: ReadLimits,
    ranges: Mapping[str, Ranges] | None = None,
    is_stored_as_text: bool = False,
    checkpoint: Callable[[str], None] | None = None,
) -> ManifestReading:
    """Read the files of a manifest into batches, one file after the other.

    Args:
        files: each with its bytes as stored, in the manifest's order; fetched ahead for speed.
        manifest_id: names the batches.
        day: of the files.
        stage: receives each batch as soon as it is full: its NDJSON, one part after the other.
        quarantine: keeps what is not an event; None: it is counted but not kept.
        batch_limits: where batches end.
        read_limits: limits for events and files.
        ranges: key → which of its events are requested, for a file that is not wanted whole.
        is_stored_as_text: do not unpack anything, whatever the magic bytes: for the files of a retry.
        checkpoint: called with the current file's key every few mebibytes unpacked or framed; may raise to stop.

    Raises:
        FileError: a file cannot be read, for whatever reason. Nothing of this reading counts; what it staged must be
            deleted.
        AccountingError: events were lost or invented between files and batches: a bug in this package.
    """
    checkpoint = checkpoint or _go_on
    if quarantine is None:
        aside = ManifestQuarantine(lambda _: None, manifest_id)
    else:
        aside = quarantine.of_manifest(manifest_id=manifest_id, day=day, is_retry=is_stored_as_text)
    reader = _Reader(
        manifest_id, stage, aside, Cutter(batch_limits), read_limits, ranges=ranges or {}, checkpoint=checkpoint
    )
    unpacked = _unpacked(files, read_limits, checkpoint, is_stored_as_text=is_stored_as_text)
    try:
        # One thread unpacks while this one frames. Both need the interpreter's lock, and its holder may keep it for 5
        # ms: so the pieces are large, and are unpacked without the lock in a few calls.
        with closing(ahead(_loads(unpacked), depth=_LOADS_AHEAD)) as loads:
            for load in loads:
                for file, piece in load:
                    reader.read(file, piece)
        reading = reader.finish()
        aside.close()
    except BaseException:
        aside.discard()
        raise
    return reading


def _go_on(key: str) -> None:
    """Nothing ends a reading."""


def text_of(
    file: SourceFile,
    chunks: Iterator[bytes],
    limits: ReadLimits,
    checkpoint: Callable[[str], None],
    *,
    is_stored_as_text: bool,
) -> Iterator[bytes]:
    """The text of one file, piece by piece.

    Args:
        chunks: as stored.
        checkpoint, is_stored_as_text: as for :func:`read_manifest`.

    Raises:
        FileError: it cannot be unpacked, or is not text.
    """
    if is_stored_as_text:
        return chunks
    return decompress(
        chunks, key=file.key, size_bytes=file.size_bytes, limits=limits, checkpoint=partial(checkpoint, file.key)
    )


def _unpacked(
    files: Iterable[tuple[SourceFile, Iterator[bytes]]],
    limits: ReadLimits,
    checkpoint: Callable[[str], None],
    *,
    is_stored_as_text: bool,
) -> Iterator[_Piece]:
    """The unpacked pieces of each file, and None after the last one."""
    for file, chunks in files:
        with blaming(file.key):
            for piece in text_of(file, chunks, limits, checkpoint, is_stored_as_text=is_stored_as_text):
                yield file, piece
        yield file, None


def _loads(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """The same pieces in groups of ``PIECE_BYTES``: many small files are passed on at once."""
    load: list[_Piece] = []
    load_bytes = 0
    for file, piece in pieces:
        load.append((file, piece))
        load_bytes += len(piece or b"")
        if load_bytes >= PIECE_BYTES:
            yield load
            load, load_bytes = [], 0
    if load:
        yield load


class _Reader:
    """One reading of a manifest."""

    def __init__(
        self,
        manifest_id: str,
        stage: Stage,
        aside: ManifestQuarantine,
        cutter: Cutter,
        limits: ReadLimits,
        *,
        ranges: Mapping[str, Ranges],
        checkpoint: Callable[[str], None],
    ) -> None:
        self._manifest_id = manifest_id
        self._stage = stage
        self._aside = aside
        self._cutter = cutter
        self._limits = limits
        self._ranges = ranges
        self._left_out = 0
        self._checker = Checker(limits)
        self._checkpoint = checkpoint
        self._files: list[FileReading] = []
        self._batches: list[StagedBatch] = []
        self._framer: Framer | None = None
        self._bytes_unpacked = self._events = self._quarantined_before = self._quarantined_bytes_before = 0

    def read(self, file: SourceFile, piece: bytes | None) -> None:
        """Frame the next piece of *file*, or its end; its last event is never joined to the next file's first."""
        if self._framer is None:
            self._framer = Framer(self._limits, self._checker, checkpoint=partial(self._checkpoint, file.key))
            self._bytes_unpacked = self._events = self._left_out = 0
            self._quarantined_before, self._quarantined_bytes_before = self._aside.records, self._aside.size_bytes
        with blaming(file.key):
            framed = self._framer.finish() if piece is None else self._framer.feed(piece)
        self._bytes_unpacked += len(piece or b"")
        self._events += self._keep(file, framed)
        if piece is None:
            with blaming(file.key):
                self._files.append(self._balanced(file, self._framer.tally))
            self._framer = None

    def _balanced(self, file: SourceFile, tally: Tally) -> FileReading:
        """The result for the file, after checking that all that came in was framed, and all framed was kept."""
        found = FileReading(
            key=file.key,
            etag=file.etag,
            bytes_stored=file.size_bytes,
            bytes_unpacked=self._bytes_unpacked,
            bytes_events=tally.events_bytes,
            bytes_separators=tally.separators_bytes,
            bytes_quarantined=self._aside.size_bytes - self._quarantined_bytes_before,
            events=self._events,
            quarantined=self._aside.records - self._quarantined_before,
            left_out=self._left_out,
        )
        kept_bytes = found.bytes_events + found.bytes_separators + found.bytes_quarantined
        if kept_bytes != found.bytes_unpacked or (tally.events, tally.stretches) != (found.events, found.quarantined):
            raise AccountingError(
                f"{printable(file.key)}: {found.bytes_unpacked} bytes were unpacked, but {kept_bytes} accounted for; "
                f"{tally.events} events and {tally.stretches} malformed records were framed, but {found.events} and "
                f"{found.quarantined} kept"
            )
        return found

    def finish(self) -> ManifestReading:
        """Cut the last batch and add everything up."""
        for cut in self._cutter.finish():
            self._put(cut)
        framed = sum(file.events + file.quarantined - file.left_out for file in self._files)
        if framed != self._cutter.events + self._aside.records:
            raise AccountingError(
                f"manifest {self._manifest_id}: {framed} were framed, but {self._cutter.events} events are in batches "
                f"and {self._aside.records} records in the quarantine"
            )
        return ManifestReading(
            batches=tuple(self._batches),
            events_framed=framed,
            events_batched=self._cutter.events,
            events_quarantined=self._aside.records,
            bytes_unpacked=sum(file.bytes_unpacked for file in self._files),
            files=tuple(self._files),
            kept=tuple(self._aside.kept),
        )

    def _keep(self, file: SourceFile, framed: list[Framed]) -> int:
        events = 0
        for part in framed:
            if isinstance(part, BadStretch):
                self._aside.add(file, part)
                continue
            first, events = self._events + events, events + (part.events if isinstance(part, Lines) else len(part))
            with blaming(file.key):
                cuts = list(self._cutter.add(self._wanted(file, part, first) if self._ranges else part, file=file.key))
            for cut in cuts:
                self._put(cut)
        return events

    def _wanted(self, file: SourceFile, found: Lines | list[bytes], first: int) -> Lines | list[bytes]:
        """The requested ones of *found*; *first* is the number of their first event in the file."""
        ranges = self._ranges.get(file.key)
        if ranges is None:
            return found
        lines = split_lines(bytes(found.text))[0] if isinstance(found, Lines) else found
        wanted = [line for n, line in enumerate(lines, first) if any(start <= n < stop for start, stop in ranges)]
        self._left_out += len(lines) - len(wanted)
        return wanted

    def _put(self, cut: CutBatch) -> None:
        n = len(self._batches)
        batch = StagedBatch(
            n=n,
            id=f"{self._manifest_id}-{n}",
            events=cut.events,
            size_bytes=cut.size_bytes,
            crc32=reduce(lambda crc32, part: isal_zlib.crc32(part, crc32), cut.parts, 0),
            files=cut.files,
        )
        self._stage(batch, cut.parts)
        self._batches.append(batch)
