"""Every compression is detected by its first bytes, decompressed completely, within limits, or refused loudly."""

import bz2
import gzip
import lzma
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress

import cramjam
import pytest
from backports import zstd

from export_pipeline.errors import FileCorrupt, FileError, FileOverLimit
from export_pipeline.source.compression import PIECE_BYTES, decompress
from export_pipeline.source.file import KIB, MIB, ReadLimits
from export_pipeline_tests.source.packing import (
    CHECKED,
    PACKERS,
    framed_snappy,
    gzip_with_header,
    hadoop_snappy,
    legacy_lz4,
    lz4_framed,
    xerial_snappy,
    zip_of,
)

LINES = b"".join(b'{"n":%d,"s":"%s"}\n' % (n, random.Random(n).randbytes(6).hex().encode()) for n in range(30_000))


def unpack(stored: bytes, *, piece_bytes: int = 8 * MIB, limits: ReadLimits | None = None) -> bytes:
    """The unpacked bytes of a file that comes in pieces of *piece_bytes*."""
    chunks = (stored[at : at + piece_bytes] for at in range(0, len(stored), piece_bytes))
    pieces = list(decompress(chunks, key="2026/11/23/a.gz", size_bytes=len(stored), limits=limits or ReadLimits()))
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("size", [0, 1, 300, len(LINES)])
def test_gives_what_was_packed(name: str, size: int) -> None:
    """All parts of a file are unpacked, however large they are and in whatever pieces the file comes."""
    stored = PACKERS[name](LINES[:size])
    for piece_bytes in (max(1, len(stored) // 5000), 65_537, 8 * MIB):
        assert unpack(stored, piece_bytes=piece_bytes) == LINES[:size]


@pytest.mark.parametrize(
    "name",
    # At night also nested ones, and further ways to pack in one format.
    [pytest.param(name, marks=pytest.mark.thorough) if " in " in name or ", " in name else name for name in PACKERS],
)
def test_a_large_file_comes_in_many_pieces(name: str) -> None:
    """What unpacks to more than a piece may hold comes in several, whether or not its parts end where pieces do."""
    data = LINES * (2 * PIECE_BYTES // len(LINES) + 1)
    assert len(data) > 2 * PIECE_BYTES
    assert unpack(PACKERS[name](data)) == data


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "none" and " in " not in name])
def test_a_truncated_file_is_corrupt(name: str) -> None:
    """Cut anywhere but between two parts, a packed file is corrupt, never a shorter one."""
    stored = PACKERS[name](LINES[:300])
    whole_parts = []
    for length in range(14, len(stored)):
        with suppress(FileCorrupt):
            whole_parts.append(unpack(stored[:length]))
    assert set(whole_parts) <= {b"", LINES[:150], LINES[:300]}
    # Only ends of parts, and zeros between them, are places where a file may end.
    assert len(whole_parts) < 20 or "padded" in name


@pytest.mark.parametrize("name", CHECKED)
def test_a_wrong_byte_is_found(name: str) -> None:
    """A file of which any byte was changed is corrupt, or still gives exactly what was packed (it was a time stamp)."""
    stored = PACKERS[name](LINES[:300])
    for at in range(10, len(stored)):
        changed = bytearray(stored)
        changed[at] ^= 0x55
        try:
            unpacked = unpack(bytes(changed))
        except FileError:
            continue
        assert unpacked == LINES[:300], at


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (gzip.compress(LINES)[:-8] + b"\0\0\0\0" + gzip.compress(LINES)[-4:], "gzip data is corrupt"),
        (gzip.compress(LINES)[:-4] + b"\0\0\0\0", "gzip data is corrupt"),
        (zlib.compress(LINES)[:-4] + b"\0\0\0\0", "zlib data is corrupt"),
        (bz2.compress(LINES)[:-6] + b"\0" * 6, "bzip2 data is corrupt"),
    ],
)
def test_a_wrong_checksum_is_corrupt(stored: bytes, message: str) -> None:
    """Checksum and length at the end of a file are compared."""
    with pytest.raises(FileCorrupt, match=message):
        unpack(stored)


@pytest.mark.parametrize("name", ["gzip", "zlib", "zstd", "bzip2", "xz"])
@pytest.mark.parametrize("rest", [b"garbage", b'{"a":1}\n', b"\0\0garbage"])
def test_what_follows_the_last_part_is_not_passed_over(name: str, rest: bytes) -> None:
    """Bytes after the compressed data that are not another part make the file corrupt."""
    with pytest.raises(FileCorrupt):
        unpack(PACKERS[name](LINES[:300]) + rest)


def test_the_name_of_a_file_decides_nothing() -> None:
    """A plain file may be called a.gz, as an uploader with Content-Encoding does."""
    assert unpack(b'{"a":1}\n') == b'{"a":1}\n'


@pytest.mark.parametrize("listed", [0, 5, 100])
def test_a_file_of_another_size_than_listed_is_corrupt(listed: int) -> None:
    """Too few or too many bytes are detected even if the format has no end marker."""
    with pytest.raises(FileCorrupt, match=f"8 bytes were read, but {listed} were listed"):
        list(decompress([b'{"a":1}\n'], key="k", size_bytes=listed, limits=ReadLimits()))


def test_a_zip_gives_every_file_on_lines_of_its_own() -> None:
    """The files of an archive follow each other; a line feed goes between two that would run into each other."""
    assert unpack(zip_of(b'{"a":1}', b"", b'{"b":2}\n', b'{"c":3}')) == b'{"a":1}\n{"b":2}\n{"c":3}'


def test_a_zip_may_hold_a_file_without_a_name() -> None:
    """An entry without a name is a file like any other."""
    stored = zip_of(b'{"a":1}')
    # The lengths of the name: in the entry's own header, and in the table of contents.
    for signature, place in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        at = stored.rindex(signature)
        behind = at + place + (4 if signature == b"PK\x03\x04" else 18)
        name = stored[behind : behind + len(b"folder/0.json")]
        assert name == b"folder/0.json"
        stored = stored[: at + place] + b"\0\0" + stored[at + place + 2 : behind] + stored[behind + len(name) :]
    end = stored.rindex(b"PK\x05\x06")
    contents = stored.index(b"PK\x01\x02")
    stored = stored[: end + 12] + struct.pack("<LL", end - contents, contents) + stored[end + 20 :]
    assert unpack(stored) == b'{"a":1}'


@pytest.mark.parametrize("length", range(4, 22))
def test_a_zip_that_is_less_than_an_end_is_corrupt(length: int) -> None:
    """A file that begins with the end of an archive, and is too short for one, is an error of the file."""
    with pytest.raises(FileCorrupt, match="truncated"):
        unpack((b"PK\x05\x06" + b"\x01" * 26)[:length])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_in_another_method_is_refused(method: int) -> None:
    """Methods that cannot be unpacked in bounded steps are named in the error."""
    with pytest.raises(FileCorrupt, match=f"compression method {method}, allowed are 0 and 8"):
        unpack(zip_of(LINES, method=method))


def test_an_encrypted_zip_is_refused() -> None:
    """A file in an archive that needs a password makes the archive unreadable, and the error says so."""
    stored = bytearray(zip_of(LINES))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        stored[stored.rindex(signature) + flags] |= 1
    with pytest.raises(FileCorrupt, match="encrypted"):
        unpack(bytes(stored))


def test_a_zip_with_a_huge_table_of_contents_is_refused() -> None:
    """The table of contents is read whole, so its length is limited before."""
    many = bytearray(zip_of(b"x"))
    end = many.rindex(b"PK\x05\x06")
    many[end + 12 : end + 16] = struct.pack("<L", 100 * MIB)
    with pytest.raises(FileOverLimit, match="central directory has 104857600 bytes, allowed are 4194304"):
        unpack(bytes(many))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (framed_snappy(LINES) + b"\x02\x01\0\0x", "unknown type 0x02"),
        (framed_snappy(LINES[:1000])[:10] + b"\x01\x0e\0\0" + b"\0" * 4 + b'{"a":1}\n\n\n', "snappy data is corrupt"),
        (struct.pack(">LL", 10, 7) + bytes(cramjam.snappy.compress_raw(b"12345")) + struct.pack(">L", 7), "truncated"),
        (
            hadoop_snappy(b"1") + struct.pack(">L", 3) + hadoop_snappy(b"12345")[4:],
            "a snappy block of 3 bytes contains",
        ),
        (hadoop_snappy(b"1") + struct.pack(">LL", 9, 3) + b"\x05\x10a", "snappy data is corrupt"),
    ],
)
def test_snappy_that_contradicts_itself_is_corrupt(stored: bytes, message: str) -> None:
    """Unknown chunks, wrong checksums and lengths that do not fit are errors of the file."""
    with pytest.raises(FileCorrupt, match=message):
        unpack(stored)


def test_a_snappy_chunk_that_announces_gigabytes_is_refused() -> None:
    """A chunk's declared length is trusted only within bounds."""
    preamble = b"\xff\xff\xff\xff\x0f"
    stored = struct.pack(">LL", 0xFFFFFFFF, 100) + preamble + b"\0" * 95
    with pytest.raises(FileOverLimit, match="a snappy chunk has 4294967295 bytes, allowed are 67108864"):
        unpack(stored)


def test_the_limits_of_a_file() -> None:
    """A file may unpack to exactly what the limits allow, and not to a byte more."""
    for limits in (
        ReadLimits(max_unpacked_bytes=len(LINES)),
        ReadLimits(max_unpacked_ratio=1, ratio_floor_bytes=len(LINES)),
    ):
        assert unpack(gzip.compress(LINES), limits=limits) == LINES
        with pytest.raises(FileOverLimit, match=f"unpacks to more than {len(LINES)} bytes"):
            unpack(gzip.compress(LINES + b"\n"), limits=limits)
    with pytest.raises(FileOverLimit, match="max_unpacked_ratio: 2"):
        unpack(gzip.compress(LINES), limits=ReadLimits(max_unpacked_ratio=2, ratio_floor_bytes=0))
    assert unpack(gzip.compress(LINES), limits=ReadLimits(max_unpacked_ratio=9, ratio_floor_bytes=0)) == LINES


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(zstd.compress(b"x" * 1000, options={zstd.CompressionParameter.window_log: 10})[:4], id="cut zstd"),
        pytest.param(gzip_with_header(b"x")[:12], id="cut header"),
        pytest.param(gzip.compress(b"x") + b"\x1f", id="cut magic number of the next member"),
    ],
)
def test_a_cut_beginning_is_corrupt(stored: bytes) -> None:
    """Enough bytes to know the format and too few for anything else are an error, not an empty file."""
    with pytest.raises(FileCorrupt, match="truncated"):
        unpack(stored)


def test_a_window_that_needs_too_much_memory_is_refused() -> None:
    """A frame that demands more than 128 MiB to look back on is refused before they are allocated."""
    options = {zstd.CompressionParameter.window_log.value: 28}
    packer = zstd.ZstdCompressor(options=options)
    stored = packer.compress(LINES) + packer.flush()
    with pytest.raises(FileOverLimit, match="zstd data needs more than"):
        unpack(stored)
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * MIB}]
    with pytest.raises(FileOverLimit, match="xz data needs more than"):
        unpack(lzma.compress(b"x", filters=filters))


def test_many_thousand_members_are_not_slow() -> None:
    """CloudWatch's log events are separate gzip members: the work grows with the bytes, not times the members."""
    member = gzip.compress(b'{"a":1}\n', mtime=0)

    def seconds(count: int) -> float:
        began = time.process_time()
        assert len(unpack(member * count)) == 8 * count
        return time.process_time() - began

    # Four times as many take four times as long; sixteen times, if each member cost a copy of what follows it.
    assert seconds(120_000) < 8 * min(seconds(30_000) for _ in range(3))


MEASURE = """
import resource, sys
from export_pipeline.errors import FileOverLimit
from export_pipeline.source.compression import decompress
from export_pipeline.source.file import MIB, ReadLimits

path, warm = sys.argv[1:3]
limits = ReadLimits(max_unpacked_bytes=192 * MIB)
def unpack(path):
    data = open(path, "rb").read()
    return sum(len(piece) for piece in decompress([data], key="k", size_bytes=len(data), limits=limits))
unpack(warm)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(unpack(path))
except FileOverLimit:
    print("over", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""

BLANKS = b" " * 256 * MIB


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("gzip", lambda data: gzip.compress(data, 1)),
        ("gzip of many members", lambda data: gzip.compress(data[:MIB], 1) * 256),
        pytest.param("zlib", lambda data: zlib.compress(data, 1), marks=pytest.mark.thorough),
        ("zstd", zstd.compress),
        ("bzip2", lambda data: bz2.compress(data[: 16 * MIB]) * 16),
        ("xz", lambda data: lzma.compress(data, preset=0)),
        ("zip", zip_of),
        ("snappy", lambda data: framed_snappy(data[: 16 * MIB]) * 16),
        ("lz4", lambda data: lz4_framed(data[: 64 * MIB]) * 4),
        # At night: further forms of the same.
        pytest.param("Hadoop's snappy", lambda data: hadoop_snappy(data[: 16 * MIB]) * 16, marks=pytest.mark.thorough),
        pytest.param(
            "snappy-java's snappy", lambda data: xerial_snappy(data[: 16 * MIB]) * 16, marks=pytest.mark.thorough
        ),
        pytest.param("lz4, legacy", lambda data: legacy_lz4(data[: 64 * MIB]) * 4, marks=pytest.mark.thorough),
        ("gzip in gzip", lambda data: gzip.compress(gzip.compress(data, 1), 1)),
        ("UTF-16", lambda data: gzip.compress(b"\xff\xfe" + b" \0" * (len(data) // 2), 1)),
    ],
)
def test_a_bomb_meets_the_limit_and_takes_no_memory(
    name: str, pack: Callable[[bytes], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A quarter of a gigabyte of blanks is refused at the limit, and at no time held."""
    folder = tmp_path_factory.mktemp("bomb")
    (folder / "bomb").write_bytes(pack(BLANKS))
    (folder / "warm").write_bytes(pack(BLANKS[: 300 * KIB]) if "many" not in name else gzip.compress(b"x"))
    command = [sys.executable, "-c", MEASURE, str(folder / "bomb"), str(folder / "warm")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    word, growth_mib = done.stdout.split()
    assert word == "over"
    assert int(growth_mib) < 32
