"""The benchmark's data."""

import gzip
from pathlib import Path

from benchmarks.account import account_of
from benchmarks.bucket import read_index
from benchmarks.data import Data, distinct_files, one_file, repeated_files


def unpacked(data: Data) -> list[bytes]:
    """Every object's bytes, by key."""
    return [gzip.decompress(entry.body.read_bytes()) for entry in read_index(data.index)]


def test_the_same_options_make_the_same_bytes(tmp_path: Path) -> None:
    """Two buckets made with one seed are the same, and another seed makes another."""
    first, second, other = (
        distinct_files(tmp_path / name, events=40, files=4, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert unpacked(first) == unpacked(second) != unpacked(other)
    assert first.checksum == second.checksum != other.checksum


def test_the_checksum_is_that_of_the_events(tmp_path: Path) -> None:
    """What a bucket says of itself is what is found when its files are unpacked and counted, in any order."""
    data = distinct_files(tmp_path / "bucket", events=50, files=3)
    paths = []
    for n, content in enumerate(reversed(unpacked(data))):
        paths.append(tmp_path / f"{n}.ndjson")
        paths[-1].write_bytes(content)
    found = account_of(paths)
    assert (found.events, found.checksum) == (50, int(data.checksum, 16))
    assert sum(map(len, unpacked(data))) == data.unpacked_bytes


def test_concatenated_files_hold_the_same_events(tmp_path: Path) -> None:
    """As Firehose writes them, the files have no line feed, and the same events."""
    lines = distinct_files(tmp_path / "lines", events=20, files=2)
    data = distinct_files(tmp_path / "concatenated", events=20, files=2, framing="concatenated")
    assert data.checksum == lines.checksum
    assert unpacked(data) == [content.replace(b"\n", b"") for content in unpacked(lines)]


def test_large_buckets_and_files_are_made_of_few_bytes(tmp_path: Path) -> None:
    """A bucket of many keys repeats a hundred objects; a large file repeats its events as members of gzip."""
    many = repeated_files(tmp_path / "many", files=250, events_each=2)
    entries = read_index(many.index)
    assert len(entries) == len({entry.key for entry in entries}) == 250
    assert len({entry.body for entry in entries}) == 100
    large = one_file(tmp_path / "large", unpacked_bytes=20_000_000, compressed=True)
    (content,) = unpacked(large)
    assert content.count(b"\n") == large.events
    assert len(content) == large.unpacked_bytes
