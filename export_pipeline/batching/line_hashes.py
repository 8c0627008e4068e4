"""A hash of each event of a manifest, so that a newer version of a file can be compared with it line by line.

Kept with ``source.on_overwrite: changed``, in the quarantine under ``lines/``: 16 bytes an event, in the order of the
events in the manifest's batches. Two lines with one hash would be taken for the same: at 128 bits that is less likely
than an undetected error of the disk.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import IO, cast

from export_pipeline.batching.record import ObjectStore
from export_pipeline.errors import ObjectMissing

HASH_BYTES = 16
LINES_FOLDER = "lines"
_PART_BYTES = 16 * 1024 * 1024
_IN_MEMORY_BYTES = 1024 * 1024
# A dictionary of this many takes about 60 MB.
_HASHES_AT_ONCE = 500_000


class LineHashes:
    """The hashes of one manifest while it is read."""

    def __init__(self) -> None:
        self._spool = cast("IO[bytes]", SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115 (close closes it)

    def add(self, parts: Iterable[bytes | memoryview]) -> None:
        """Take the events of the next batch, as NDJSON."""
        self._spool.write(b"".join(hashes_in(parts)))

    def keep(self, objects: ObjectStore, name: str) -> None:
        """Write them; a second reading of the same manifest writes the same."""
        self._spool.seek(0)
        part = 0
        while (data := self._spool.read(_PART_BYTES)) or not part:
            objects.put(_object(name, part), data)
            part += 1

    def close(self) -> None:
        """Discard what is not kept."""
        self._spool.close()


def hashes_in(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The hashes of the events of a batch, as NDJSON, in order."""
    for line in b"".join(parts).split(b"\n")[:-1]:
        yield blake2b(line, digest_size=HASH_BYTES).digest()


def hashes_of(objects: ObjectStore, name: str, first: int, stop: int) -> Iterator[bytes]:
    """The hashes of events *first* up to, but excluding, *stop*, in order.

    Raises:
        ObjectMissing: none were kept when the manifest was read.
    """
    a_part = _PART_BYTES // HASH_BYTES
    for part in range(first // a_part, -(-stop // a_part)):
        data = objects.get(_object(name, part))
        begin = part * a_part
        for n in range(max(first, begin), min(stop, begin + a_part)):
            at = (n - begin) * HASH_BYTES
            if at + HASH_BYTES > len(data):
                raise ObjectMissing(f"{_object(name, part)}: fewer hashes than events")
            yield data[at : at + HASH_BYTES]


def new_among(new: Iterable[bytes], old: Sequence[Iterable[bytes]]) -> list[tuple[int, int]]:
    """The ranges of those of *new* that are in none of *old*: the first number of each, and the one after its last.

    A line that is there more often than in any of *old* is new as often as that. Memory holds about 60 MB of hashes,
    and a byte for each of *new*, however many there are: the rest is in temporary files, which are read several times.
    """
    with ExitStack() as opened:
        new_file, number = _spooled(new, opened)
        old_files = [_spooled(one, opened) for one in old]
        is_new = bytearray(number)
        passes = max(1, -(-sum(events for _, events in old_files) // _HASHES_AT_ONCE))
        for turn in range(passes):
            known: dict[bytes, int] = {}
            for file, _ in old_files:
                own = Counter(digest for _, digest in _read(file, turn, passes))
                for digest, times in own.items():
                    known[digest] = max(known.get(digest, 0), times)
            for n, digest in _read(new_file, turn, passes):
                left = known.get(digest, 0)
                if left:
                    known[digest] = left - 1
                else:
                    is_new[n] = 1
    return _ranges(is_new)


def _spooled(hashes: Iterable[bytes], opened: ExitStack) -> tuple[IO[bytes], int]:
    file = opened.enter_context(TemporaryFile())  # noqa: SIM115 (opened closes it)
    number = 0
    for digest in hashes:
        file.write(digest)
        number += 1
    return file, number


def _read(file: IO[bytes], turn: int, passes: int) -> Iterator[tuple[int, bytes]]:
    """Number and hash of those of a file that this pass takes."""
    file.seek(0)
    n = 0
    while data := file.read(_IN_MEMORY_BYTES):
        for at in range(0, len(data), HASH_BYTES):
            digest = data[at : at + HASH_BYTES]
            if passes == 1 or int.from_bytes(digest[:4], "big") % passes == turn:
                yield n, digest
            n += 1


def _ranges(is_new: bytearray) -> list[tuple[int, int]]:
    ranges = []
    at = is_new.find(1)
    while at >= 0:
        stop = is_new.find(0, at)
        stop = len(is_new) if stop < 0 else stop
        ranges.append((at, stop))
        at = is_new.find(1, stop)
    return ranges


def _object(name: str, part: int) -> str:
    return f"{LINES_FOLDER}/{name}" + (f".part-{part}" if part else "")
