"""Buckets for benchmarks: seeded, so that the same options give the same bytes; created once and kept in a folder."""

import hashlib
import random
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

from benchmarks.account import MODULUS, Account
from benchmarks.bucket import Entry, write_index
from export_pipeline.sample_bucket import STREAM, sample_events

UNTIL = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
_GZIP_LEVEL = 6
_SPREAD = timedelta(hours=10)


@dataclass(frozen=True, slots=True)
class Data:
    """A bucket on disk.

    Attributes:
        index: what the server reads.
        files, events: how many objects, and how many events in all of them.
        stored_bytes, unpacked_bytes: of all objects, as they are stored and unpacked.
        checksum: of all events, as in ``account``, in hexadecimal; empty if it was not computed.
    """

    index: Path
    files: int
    events: int
    stored_bytes: int
    unpacked_bytes: int
    checksum: str = ""


def distinct_files(folder: Path, *, events: int, files: int, framing: str = "lines", seed: int = 1) -> Data:
    """*events* in *files* distinct gzip objects of one day, in Firehose's layout.

    Args:
        framing: ``lines`` or, as Firehose writes by default, ``concatenated``.
    """
    index = folder / "index.tsv"
    summary = folder / "summary.txt"
    if not summary.exists():
        (folder / "bodies").mkdir(parents=True, exist_ok=True)
        shares = [events * (n + 1) // files - events * n // files for n in range(files)]
        make = partial(_make, folder / "bodies", files=files, framing=framing, seed=seed)
        with ProcessPoolExecutor() as pool:
            made = list(pool.map(make, range(files), shares))
        write_index(index, (one.entry for one in made))
        stored, unpacked = sum(one.entry.size_bytes for one in made), sum(one.unpacked_bytes for one in made)
        checksum = sum(one.checksum for one in made) % MODULUS
        summary.write_text(f"{stored} {unpacked} {checksum:x}")
    stored_text, unpacked_text, checksum_text = summary.read_text().split()
    return Data(index, files, events, int(stored_text), int(unpacked_text), checksum_text)


def repeated_files(folder: Path, *, files: int, events_each: int, days: int = 1, seed: int = 1) -> Data:
    """*files* gzip objects of *events_each* events. Only a hundred of them differ, so that any number is created fast.

    Args:
        days: number of days that the keys are spread over, the last of them 2026-11-20.
    """
    index = folder / "index.tsv"
    summary = folder / "summary.txt"
    if not summary.exists():
        (folder / "bodies").mkdir(parents=True, exist_ok=True)
        kinds = [
            _make(folder / "bodies", n, events_each, files=100, framing="lines", seed=seed)
            for n in range(min(100, files))
        ]
        chosen = [kinds[n % len(kinds)] for n in range(files)]
        chance = random.Random(seed)
        moments = [UNTIL - (timedelta(days=days - 1) + _SPREAD) * (files - n) / files for n in range(files)]
        write_index(
            index,
            (
                Entry(_key(moment, chance), entry.etag, entry.size_bytes, int(moment.timestamp()), entry.body)
                for moment, entry in zip(moments, (one.entry for one in chosen), strict=True)
            ),
        )
        stored, unpacked = sum(one.entry.size_bytes for one in chosen), sum(one.unpacked_bytes for one in chosen)
        summary.write_text(f"{stored} {unpacked}")
    stored, unpacked = map(int, summary.read_text().split())
    return Data(index, files, files * events_each, stored, unpacked)


def one_file(folder: Path, *, unpacked_bytes: int, compressed: bool, seed: int = 1) -> Data:
    """One object of about *unpacked_bytes*: the same 8 MiB of events over and over, a gzip member each or plain."""
    index = folder / "index.tsv"
    summary = folder / "summary.txt"
    if not summary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        chance = random.Random(seed)
        block_bytes = min(unpacked_bytes, 8 * 1024 * 1024)
        lines = list(_until(_events(chance, UNTIL), block_bytes))
        block = b"".join(line + b"\n" for line in lines)
        times = max(1, round(unpacked_bytes / len(block)))
        stored = _gzip(block) if compressed else block
        body = folder / "body"
        taken = hashlib.md5(usedforsecurity=False)
        with body.open("wb") as file:
            for _ in range(times):
                file.write(stored)
                taken.update(stored)
        key = _key(UNTIL - timedelta(hours=1), chance) if compressed else _key(UNTIL, chance).removesuffix(".gz")
        write_index(
            index, [Entry(key, taken.hexdigest(), len(stored) * times, int(UNTIL.timestamp()), body.absolute())]
        )
        summary.write_text(f"{times * len(lines)} {times * len(stored)} {times * len(block)}")
    events, stored_bytes, size = map(int, summary.read_text().split())
    return Data(index, 1, events, stored_bytes, size)


def cached(root: Path, name: str, make: Callable[[Path], Data]) -> Data:
    """What *make* creates in the folder *name* below *root*; created once."""
    return make((root / name).absolute())


@dataclass(frozen=True, slots=True)
class _Made:
    entry: Entry
    unpacked_bytes: int
    checksum: int


def _make(folder: Path, number: int, events: int, *, files: int, framing: str, seed: int) -> _Made:
    """Object *number*."""
    chance = random.Random(f"{seed}/{number}")
    moment = UNTIL - _SPREAD * (files - number) / files
    lines = list(islice(_events(chance, moment), events))
    account = Account()
    account.add(lines)
    data = b"".join(lines) if framing == "concatenated" else b"".join(line + b"\n" for line in lines)
    stored = _gzip(data)
    body = folder / f"{number}.gz"
    body.write_bytes(stored)
    etag = hashlib.md5(stored, usedforsecurity=False).hexdigest()
    entry = Entry(_key(moment, chance), etag, len(stored), int(moment.timestamp()), body)
    return _Made(entry, len(data), account.checksum)


def _events(chance: random.Random, start: datetime) -> Iterator[bytes]:
    """Events of the sample bucket with two more identifiers each: real events compress sevenfold, not fourteenfold."""
    while True:
        for event in sample_events(chance, 1_000, start):
            click = urlsafe_b64encode(chance.randbytes(66))
            ids = b'"eventId":"%s","qv_click_id":"%s",' % (str(UUID(int=chance.getrandbits(128))).encode(), click)
            yield event.replace(b'"attributes":{', b'"attributes":{' + ids, 1)


def _until(lines: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    taken = 0
    for line in lines:
        yield line
        taken += len(line) + 1
        if taken >= size_bytes:
            return


def _key(moment: datetime, chance: random.Random) -> str:
    name = UUID(int=chance.getrandbits(128), version=4)
    return f"events/{moment:%Y/%m/%d/%H}/{STREAM}-1-{moment:%Y-%m-%d-%H-%M-%S}-{name}.gz"


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()
