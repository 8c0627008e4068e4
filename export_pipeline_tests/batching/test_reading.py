"""A manifest becomes batches, with every byte accounted for."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timezone

import pytest

from export_pipeline.batching import reading as reading_module
from export_pipeline.batching.cutter import BatchLimits
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.reading import ManifestReading, StagedBatch, read_manifest
from export_pipeline.errors import FileCorrupt, FileError, FileFailed, FileGone
from export_pipeline.source.file import ReadLimits, SourceFile
from export_pipeline.source.framed import BadStretch, Framed
from export_pipeline.source.framing import Framer
from export_pipeline_tests.batching.memory_objects import MemoryObjects
from export_pipeline_tests.source.framing_support import events_of

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)


class Manifest:
    """Files to read, and what reading them left.

    Attributes:
        batches: what was staged, with its bytes.
        objects: the quarantine's.
    """

    def __init__(self, *contents: bytes) -> None:
        self.files = [
            (SourceFile(f"2026/11/23/{n}", f"etag-{n}", len(content), NOW), content)
            for n, content in enumerate(contents)
        ]
        self.batches: list[tuple[StagedBatch, bytes]] = []
        self.objects = MemoryObjects()

    def read(self, *, chunk_bytes: int = 1 << 20, limits: BatchLimits | None = None) -> ManifestReading:
        """Read all files, which come in pieces of *chunk_bytes*."""
        self.batches = []
        self.objects = MemoryObjects()

        def opened() -> Iterator[tuple[SourceFile, Iterator[bytes]]]:
            for file, content in self.files:
                pieces = [content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes)]
                yield file, iter(pieces)

        return read_manifest(
            files=opened(),
            manifest_id="m1",
            day=DAY,
            stage=lambda batch, parts: self.batches.append((batch, b"".join(parts))),
            quarantine=Quarantine(self.objects),
            batch_limits=limits or BatchLimits(),
            read_limits=ReadLimits(),
        )

    @property
    def data(self) -> bytes:
        """All batches, one after the other."""
        return b"".join(data for _, data in self.batches)


def test_files_become_batches() -> None:
    """Events of all files follow each other; a batch tells its number, id, size, checksum and files."""
    manifest = Manifest(gzip.compress(b'{"a":1}\n{"b":2}\n'), b'{"c":3}{"d":4}', b'[{"e":5}]')
    reading = manifest.read(limits=BatchLimits(max_events=3))
    assert [data for _, data in manifest.batches] == [b'{"a":1}\n{"b":2}\n{"c":3}\n', b'{"d":4}\n{"e":5}\n']
    assert reading.batches == tuple(batch for batch, _ in manifest.batches)
    assert reading.batches[1] == StagedBatch(
        n=1,
        id="m1-1",
        events=2,
        size_bytes=16,
        crc32=zlib.crc32(b'{"d":4}\n{"e":5}\n'),
        files=("2026/11/23/1", "2026/11/23/2"),
    )
    assert (reading.events_framed, reading.events_batched, reading.events_quarantined) == (5, 5, 0)
    assert manifest.objects.puts == []


def test_files_never_run_into_each_other() -> None:
    """The last event of a file without a newline, or the torn end of one, is not joined to the next file."""
    manifest = Manifest(b'{"a":1}', b'{"b":2}', b'{"c":', b'3}\n{"d":4}', b"[", b'{"e":5}', b'"', b'{"f":"', b'"}')
    reading = manifest.read()
    assert manifest.data == b'{"a":1}\n{"b":2}\n{"d":4}\n{"e":5}\n'
    kept = [record.data for _, record in Quarantine(manifest.objects).records()]
    assert kept == [b'{"c":', b"3}", b"[", b'"', b'{"f":"', b'"}']
    assert (reading.events_framed, reading.events_batched, reading.events_quarantined) == (10, 4, 6)


def test_the_numbers_of_a_file() -> None:
    """The bytes of a file are those of its events as stored, its separators, and its malformed records."""
    content = b'\xef\xbb\xbf{"a":1}\r\n\r\n{\n "b": 2\n}\noops\n[{"c":3} , 7]'
    manifest = Manifest(gzip.compress(content), b"")
    reading = manifest.read()
    first, empty = reading.files
    assert (first.key, first.etag, first.bytes_stored) == ("2026/11/23/0", "etag-0", len(manifest.files[0][1]))
    assert first.bytes_unpacked == len(content)
    assert first.bytes_events == len(b'{"a":1}') + len(b'{\n "b": 2\n}') + len(b'{"c":3}')
    assert first.bytes_quarantined == len(b"oops") + len(b"7")
    assert first.bytes_separators == len(content) - first.bytes_events - first.bytes_quarantined == 14
    assert (first.events, first.quarantined) == (3, 2)
    assert (empty.bytes_unpacked, empty.events, empty.quarantined) == (0, 0, 0)
    assert reading.bytes_unpacked == len(content)
    assert manifest.data == b'{"a":1}\n{"b":2}\n{"c":3}\n'


@pytest.mark.parametrize("contents", [(), (b"",), (b"\n\n", b"\xef\xbb\xbf"), (gzip.compress(b""), b"[]")])
def test_no_event_gives_no_batch(contents: tuple[bytes, ...]) -> None:
    """Files without events give zero batches, and nothing in the quarantine."""
    manifest = Manifest(*contents)
    reading = manifest.read()
    assert (reading.batches, reading.events_framed, manifest.batches, manifest.objects.puts) == ((), 0, [], [])
    assert len(reading.files) == len(contents)


def test_the_same_files_give_the_same_batches() -> None:
    """However the files come in pieces, batches and quarantine are the same, byte for byte."""
    lines = b"".join(b'{"n":%d,"s":"%s"}%s' % (n, b"x" * (n % 97), b"\n" if n % 3 else b"") for n in range(3000))
    manifest = Manifest(lines, gzip.compress(lines + b"bad\n" + lines), b"[" + lines[:13] + b"]")
    limits = BatchLimits(max_events=700, max_bytes=20_000)
    first = manifest.read(limits=limits)
    batches, kept = manifest.batches, manifest.objects.kept
    assert len(batches) > 10
    for chunk_bytes in (997, 4096, 65_536):
        assert manifest.read(chunk_bytes=chunk_bytes, limits=limits) == first
        assert (manifest.batches, manifest.objects.kept) == (batches, kept)


def test_an_unreadable_file_ends_the_reading_at_once() -> None:
    """The error of a file comes out as it is, nothing after it is read, and nothing is left in the quarantine."""
    packed = gzip.compress(b'{"a":1}\n' * 1000)
    manifest = Manifest(b"bad\n", packed[:-3], b'{"b":2}')
    with pytest.raises(FileCorrupt, match="2026/11/23/1: the gzip data is truncated"):
        manifest.read()
    assert manifest.objects.puts == []


def test_the_error_of_the_store_comes_out_as_it_is() -> None:
    """A file that is gone when its turn comes ends the reading with just that."""

    def gone() -> Iterator[bytes]:
        yield b'{"a":1}\n'
        raise FileGone("2026/11/23/0", "404")

    file = SourceFile("2026/11/23/0", "e", 100, NOW)
    with pytest.raises(FileError) as caught:
        read_manifest(
            files=[(file, gone())],
            manifest_id="m1",
            day=DAY,
            stage=lambda batch, parts: None,
            quarantine=Quarantine(MemoryObjects()),
            batch_limits=BatchLimits(),
            read_limits=ReadLimits(),
        )
    assert type(caught.value) is FileGone


def test_an_error_while_staging_ends_the_reading() -> None:
    """Where a batch cannot be staged, the error comes out and the quarantine is left alone."""

    def stage(batch: StagedBatch, parts: Sequence[bytes | memoryview]) -> None:
        raise OSError("disk full")

    manifest = Manifest(b'bad\n{"a":1}\n' * 10)
    objects = MemoryObjects()
    with pytest.raises(OSError, match="disk full"):
        read_manifest(
            files=[(file, iter([content])) for file, content in manifest.files],
            manifest_id="m1",
            day=DAY,
            stage=stage,
            quarantine=Quarantine(objects),
            batch_limits=BatchLimits(max_events=3),
            read_limits=ReadLimits(),
        )
    assert objects.puts == []


class LosingFramer(Framer):
    """Loses the first event of each run silently."""

    def feed(self, piece: bytes) -> list[Framed]:
        return [part if isinstance(part, BadStretch) else events_of(part)[1:] for part in super().feed(piece)]


class ForgettingFramer(Framer):
    """Passes over a line feed without counting it."""

    def finish(self) -> list[Framed]:
        framed = super().finish()
        self.tally.separators_bytes -= 1
        return framed


@pytest.mark.parametrize(
    ("framer", "message"),
    [
        (LosingFramer, "2 events and 0 malformed records were framed, but 1 and 0 kept"),
        (ForgettingFramer, "15 bytes were unpacked, but 14 accounted for"),
    ],
)
def test_what_is_lost_on_the_way_is_noticed(
    framer: type[Framer], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect that loses an event or a byte ends the reading before anything is delivered."""
    monkeypatch.setattr(reading_module, "Framer", framer)
    with pytest.raises(FileFailed, match=message):
        Manifest(b'{"a":1}\n{"b":2}').read()
