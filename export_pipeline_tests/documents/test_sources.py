"""The table of what is read, in docs/sources.md: each row does what it says, and nothing is read that it lacks."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from export_pipeline.errors import FileCorrupt
from export_pipeline.source.compression import decompress
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.magic import REFUSED
from export_pipeline_tests.source.framing_support import frame
from export_pipeline_tests.source.packing import PACKERS, gzipped

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
README = PAGE.parents[1] / "README.md"
A, B = b'{"a":1}', b'{"b":[{"c":"x"}]}'
LINES = A + b"\n" + B + b"\n"


class Row(NamedTuple):
    """One line of the table."""

    kind: str
    name: str
    known_by: str
    outcome: str

    @property
    def magics(self) -> list[bytes]:
        """The first bytes that it is known by."""
        found = re.findall(r"`((?:[0-9a-f]{2} ?)+)`", self.known_by)
        return [bytes.fromhex(magic) for magic in found]


def rows(*kinds: str) -> list[Row]:
    """The lines of the table that are of one of these kinds."""
    table = PAGE.read_text().partition("| kind | name |")[2].partition("\n\n")[0].splitlines()[2:]
    found = [Row(*(cell.strip() for cell in line.strip("|").split(" | "))) for line in table]
    return [row for row in found if not kinds or row.kind in kinds]


def parquet() -> bytes:
    """The same two events as rows."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    file = io.BytesIO()
    write_table(pa.Table.from_pylist([{"a": 1}]), file)
    return file.getvalue()


def orc() -> bytes:
    """An ORC file of one event."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow.orc import write_table

    file = io.BytesIO()
    write_table(pa.Table.from_pylist([{"a": 1}]), file)
    return file.getvalue()


def zip_of_macos() -> bytes:
    """An archive with what macOS adds."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, data in (("__MACOSX/._a.json", b"\0\5\x16\7"), ("a.json", LINES), ("x/.DS_Store", b"\0\0\0\1Bud1")):
            writer.writestr(name, data)
    return archive.getvalue()


PACKED: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: PACKERS["gzip, padded"](LINES),
    "zlib": lambda: PACKERS["zlib"](LINES),
    "zstd": lambda: PACKERS["zstd, frames"](LINES),
    "bzip2": lambda: PACKERS["bzip2, streams"](LINES),
    "xz": lambda: PACKERS["xz, streams, padded"](LINES),
    "lz4": lambda: PACKERS["lz4, frames"](LINES),
    "lz4, legacy": lambda: PACKERS["lz4, legacy"](LINES),
    "zstd or lz4, skippable frame": lambda: PACKERS["lz4, skippable frame first"](LINES),
    "snappy, framed": lambda: PACKERS["snappy, streams"](LINES),
    "snappy, Hadoop": lambda: PACKERS["Hadoop's snappy"](LINES),
    "snappy, snappy-java": lambda: PACKERS["snappy-java's snappy, streams"](LINES),
    "zip": lambda: PACKERS["zip"](LINES),
    "Parquet": parquet,
    "ORC": orc,
}
TEXTS = {
    "UTF-8": [LINES, b"\xef\xbb\xbf" + LINES],
    "UTF-16": [LINES.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be")],
    "UTF-32": [LINES.decode().encode(name) for name in ("utf-32", "utf-32-le", "utf-32-be")],
    "newline-delimited": [LINES, A + b"\r\n\r\n" + B],
    "concatenated": [A + B, A + b" " + B],
    "pretty-printed": [A + json.dumps(json.loads(B), indent=2).encode()],
    "array": [b"[" + A + b"," + B + b"]", b"[\n" + A + b",\n" + B + b"\n]\n"],
    "array over several files": [
        b"[" + A + b",\n" + B + b",\n",
        A + b",\n" + B + b"\n]\n",
        b"," + A + b"\n," + B + b"]",
    ],
    "text sequence (RFC 7464)": [b"\x1e" + A + b"\n\x1e" + B + b"\n"],
    "white space, commas": [b" \t" + A + b" ,\r\n" + B + b",\n\n"],
    "byte order mark": [A + b"\n\xef\xbb\xbf" + B],
    "record separator": [A + b"\x1e" + B + b"\x1e"],
    "`[`, `]`": [b"[" + A + b"]\n[" + B + b"]]\n]"],
    "`__MACOSX/…`, `.DS_Store` in a zip archive": [zip_of_macos()],
}
ONE_EVENT = {"Parquet", "ORC"}
OF_LISTINGS = "in the source"  # rows of names that a listing leaves alone have a test of their own


def read(stored: bytes) -> tuple[list[bytes], int]:
    """The events of a file, and the number of its malformed records."""
    pieces = decompress([stored], key="k", size_bytes=len(stored), limits=ReadLimits())
    result = frame(b"".join(pieces))
    return result.events, len(result.stretches)


def test_the_table_has_every_format_that_is_known() -> None:
    """Each compression, container, encoding, framing and separator that is read has a row, and each row a test."""
    named = [row.name for row in rows("compression", "container", "encoding", "framing", "separator")]
    in_archives = [row.name for row in rows("ignored") if "archive" in row.name]
    assert sorted([*named, *in_archives]) == sorted([*PACKED, *TEXTS])


@pytest.mark.parametrize("row", rows("compression", "container"), ids=lambda row: row.name)
def test_every_packing_in_the_table_is_read(row: Row) -> None:
    """What begins as the table says is unpacked, alone and inside gzip."""
    stored = PACKED[row.name]()
    assert not row.magics or stored.startswith(tuple(row.magics)) or "to" in row.known_by
    expected = [A] if row.name in ONE_EVENT else [A, B]
    assert read(stored) == (expected, 0)
    assert read(gzipped(stored)) == (expected, 0)


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_in_the_table_is_read(name: str) -> None:
    """Events in each encoding and framing arrive, and no separator leaves a record in the quarantine."""
    for stored in TEXTS[name]:
        assert read(stored) == ([A, B], 0)


@pytest.mark.parametrize("row", [row for row in rows("refused") if row.magics], ids=lambda row: row.name)
def test_every_refused_format_is_named(row: Row) -> None:
    """A format that is known but not supported is an error of the file with its name, whatever events its bytes
    contain.
    """
    for magic in row.magics:
        before = b"a.json" + b"\0" * 251 if "257" in row.known_by else b""
        with pytest.raises(FileCorrupt, match=f"{re.escape(row.name)} is not supported; supported are text"):
            read(before + magic + b"\x00\x06\n" + LINES * 3)


def test_all_that_is_refused_is_in_the_table() -> None:
    """The table has each magic number that is refused, and no other."""
    assert {magic: row.name for row in rows("refused") for magic in row.magics} == REFUSED


def test_the_readme_names_every_format() -> None:
    """A user who searches for a format finds it on the first page."""
    (sentence,) = re.findall(r"- \*\*Any framing and compression\*\*: .*?extension\.", README.read_text(), re.DOTALL)
    for name in ("gzip", "zlib", "zstd", "bzip2", "xz", "lz4", "snappy", "zip", "Parquet", "ORC", "UTF-16", "UTF-32"):
        assert name in sentence
