"""Nested formats, known but refused formats, and binary data: no file yields made-up events."""

import bz2
import gzip
import io
import lzma
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

import cramjam
import lz4.block
import lz4.frame
import pytest
from backports import zstd

from export_pipeline.errors import FileCorrupt, FileError, FileOverLimit
from export_pipeline.source.compression import PIECE_BYTES, decompress
from export_pipeline.source.file import KIB, MIB, ReadLimits
from export_pipeline_tests.source.framing_support import frame
from export_pipeline_tests.source.packing import PACKERS, gzipped, legacy_lz4, lz4_framed, xerial_snappy, zip_of

EVENT = b'{"id":1,"name":"sign up","properties":{"plan":"free","path":"/a/b/c"}}'
LINES = b"".join(
    b'{"id":%d,"name":"sign up","properties":{"plan":"free","token":"%s","o":{"n":%d}}}\n'
    % (n, random.Random(n).randbytes(9).hex().encode(), n)
    for n in range(300)
)


def unpack(stored: bytes, *, limits: ReadLimits | None = None, piece_bytes: int = 8 * MIB) -> bytes:
    """The text of a file that comes in pieces of *piece_bytes*."""
    chunks = (stored[at : at + piece_bytes] for at in range(0, len(stored), piece_bytes))
    pieces = list(decompress(chunks, key="k", size_bytes=len(stored), limits=limits or ReadLimits()))
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


SIMPLE = ["gzip", "zlib", "zstd", "bzip2", "xz", "zip", "snappy", "Hadoop's snappy", "snappy-java's snappy", "lz4"]


@pytest.mark.parametrize("outer", SIMPLE)
@pytest.mark.parametrize("inner", [*SIMPLE, "lz4, legacy"])
def test_any_packing_may_lie_in_any_other(outer: str, inner: str) -> None:
    """What is compressed twice is decompressed twice, in whatever pieces it comes; and again around it."""
    twice = PACKERS[outer](PACKERS[inner](LINES))
    assert unpack(twice) == unpack(twice, piece_bytes=1000) == LINES
    assert unpack(gzipped(twice)) == LINES
    with pytest.raises(FileOverLimit, match=r"4 nested packings \(.* in gzip in gzip\), allowed are 3"):
        unpack(gzipped(gzipped(twice)))


def test_each_file_in_an_archive_may_be_packed_its_own_way() -> None:
    """Text, gzip and an archive in an archive follow each other, with line feeds between."""
    stored = zip_of(b'{"a":1}', gzipped(b'{"b":2}'), zip_of(b'{"c":3}', lz4_framed(b'{"d":4}\n')), b"", b'{"e":5}')
    assert unpack(stored) == b'{"a":1}\n{"b":2}\n{"c":3}\n{"d":4}\n{"e":5}'


def test_the_limits_count_what_is_unpacked_on_the_way() -> None:
    """What is between two layers counts by the same limits as the final output."""
    limits = ReadLimits(max_unpacked_bytes=len(LINES))
    assert unpack(gzipped(gzipped(LINES)), limits=limits) == LINES
    stored = gzipped(gzip.compress(LINES, 0, mtime=0))
    with pytest.raises(FileOverLimit, match="unpacks to more than"):
        unpack(stored, limits=limits)


def test_parts_without_content_meet_a_limit() -> None:
    """A few kilobytes of zstd that hold a million empty gzip members are refused long before the last one."""
    stored = zstd.compress(gzip.compress(b"", mtime=0) * 300_000)
    with pytest.raises(FileOverLimit, match="the gzip data has more than 262144 parts, from"):
        unpack(stored)
    members = gzip.compress(b"", mtime=0) * 20_000
    assert unpack(members) == unpack(gzipped(members)) == b""


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"PAR1\x15\x04"])
def test_what_goes_to_disk_is_bounded(head: bytes) -> None:
    """An archive or table of zeros inside another packing fills no disk."""
    stored = gzipped(head + b"\0" * 40 * MIB)
    with pytest.raises(
        FileOverLimit, match=r"contains a (zip|Parquet) of more than 16777216 bytes in .* too large to write to disk"
    ):
        unpack(stored)


def test_entries_that_overlap_are_refused() -> None:
    """An archive whose table of contents names the same bytes many times is treated as a bomb."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a", LINES)
        writer.filelist += writer.filelist * 9
    with pytest.raises(FileCorrupt, match="entries overlap"):
        unpack(archive.getvalue())


def _with_entry_left_out(which: int) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name in "abc":
            writer.writestr(name, LINES)
        writer.filelist.pop(which)
    return archive.getvalue()


@pytest.mark.parametrize(
    "stored",
    [zip_of(LINES) + zip_of(LINES), zip_of() + zip_of(LINES), *map(_with_entry_left_out, range(3))],
    ids=["two archives", "an empty one in front", "first", "middle", "last"],
)
def test_entries_that_no_table_of_contents_lists_are_refused(stored: bytes) -> None:
    """An archive with an entry that would be skipped silently is an error of the file."""
    with pytest.raises(FileCorrupt, match="that its central directory does not list"):
        unpack(stored)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_lies_in_another_one_is_no_unlisted_entry(method: int) -> None:
    """What looks like an entry inside of an entry's bytes is its content."""
    assert unpack(zip_of(zip_of(LINES), LINES, method=method)) == LINES + LINES


@pytest.mark.parametrize("size", [0, 10, len(LINES) + 10])
def test_entries_that_lie_about_their_size_are_corrupt(size: int) -> None:
    """An entry that holds more or less than it announces is an error of the file."""
    stored = bytearray(zip_of(LINES))
    at = stored.rindex(b"PK\x01\x02") + 24
    stored[at : at + 4] = struct.pack("<L", size)
    with pytest.raises(FileCorrupt, match="zip archive is corrupt"):
        unpack(bytes(stored))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"\x82SNAPPY\0" + b"\0" * 8 + struct.pack(">L", 2**31), "a snappy chunk has 2147483648 bytes, allowed are"),
        (xerial_snappy(LINES) + b"\x82SNA" + b"xxxx" + b"\0" * 8, "incomplete snappy-java header"),
        (xerial_snappy(LINES)[:-1], "the snappy data is truncated"),
        (b"\x02\x21\x4c\x18" + struct.pack("<L", 2**31), "a block of 2147483648 bytes in the legacy format"),
        (legacy_lz4(LINES)[:-1], "the lz4 data is truncated"),
        (b"\x02\x21\x4c\x18" + struct.pack("<L", 3) + b"\xff\xff\xff", "the lz4 data is corrupt"),
        (lz4_framed(LINES)[:-1], "the lz4 data is truncated"),
        (lz4_framed(LINES) + b"x", "the lz4 data is (corrupt|truncated)"),
        (b"\x04\x22\x4d\x18\x61" + lz4_framed(LINES)[5:], "compressed with a dictionary"),
        (b"\x50\x2a\x4d\x18\xff\xff\xff\xff123", "the skippable data is truncated"),
        (b"\x50\x2a\x4d\x18\x01\0\0\0x" + LINES, "the zstd data is corrupt"),
    ],
)
def test_damage_is_an_error_of_the_file(stored: bytes, message: str) -> None:
    """Impossible lengths, truncated ends and unknown contents are reported, and nothing is allocated for them."""
    with pytest.raises(FileError, match=message):
        unpack(stored)


def brotli_like(data: bytes) -> bytes:
    """Bytes without any magic number, as brotli's are: raw deflate."""
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(brotli_like, id="deflate without header"),
        pytest.param(lambda data: lz4.block.compress(data, store_size=False), id="lz4 block"),
        pytest.param(lambda data: bytes(lz4.block.compress(data)), id="lz4 block with its size"),
        pytest.param(lambda data: bytes(cramjam.snappy.compress_raw(data)), id="raw snappy"),
        pytest.param(lambda data: lzma.compress(data, lzma.FORMAT_ALONE), id="lzma"),
        pytest.param(lambda data: bz2.compress(data)[4:], id="bzip2 without its beginning"),
        pytest.param(lambda data: random.Random(1).randbytes(4 * KIB) + data[:0], id="noise"),
        pytest.param(lambda data: b"\0" * len(data), id="zeros"),
    ],
)
def test_what_is_no_text_is_refused(pack: Callable[[bytes], bytes]) -> None:
    """Unknown packings, encodings and noise are errors of the file, also inside gzip: no piece of them is an event."""
    for data in (LINES, LINES[:1000], EVENT * 2 if pack(EVENT) != EVENT else LINES):
        for stored in (pack(data), gzipped(pack(data))):
            with pytest.raises(FileCorrupt, match=r"neither text nor in a format that is detected|is not supported"):
                unpack(stored)


@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"garbage\n", id="text"),
        pytest.param(b"\xff\xfa\x01\x02\n", id="a binary line"),
        pytest.param(b"\0" * 4096, id="zeros"),
        pytest.param(b'\xa9 cut"}\n', id="a cut character"),
        pytest.param(b'{"a":"raw \x01 control"}\n', id="an event with a control character"),
        pytest.param("Straße;Größe\n".encode("latin-1"), id="Latin-1"),
        pytest.param(b"\x1b[32mINFO\x1b[0m\n", id="colours"),
        pytest.param(b"ORC rows\n", id="ORC"),
        pytest.param(b"PAR1 is the magic number of Parquet\n", id="PAR1"),
        pytest.param(b"BZh or x^2 + 1\n", id="BZh"),
        pytest.param(b"x^2 + 1 = 0\n", id="x^"),
        pytest.param(b"LZIP, MSCF, GIF8, SEQ\n", id="names"),
        pytest.param(b"\xef\xbb\xbf\x1e \n", id="separators"),
    ],
)
def test_junk_in_front_costs_no_event(junk: bytes) -> None:
    """Sound events behind something that is none arrive, whatever that looks like; it is quarantined by itself."""
    result = frame(unpack(junk + LINES))
    assert b"".join(event + b"\n" for event in result.events) == LINES
    assert len(result.stretches) == bool(junk.strip(b"\xef\xbb\xbf\x1e \n"))


def test_binary_stretches_behind_sound_events_are_quarantined() -> None:
    """Once it is text, a file may contain anything: what is not an event is quarantined, and events arrive."""
    noise = random.Random(1).randbytes(5 * KIB).replace(b"{", b"").replace(b"\n", b"")
    result = frame(unpack(LINES + noise + b"\n" + LINES))
    assert b"".join(event + b"\n" for event in result.events) == LINES * 2
    assert result.bad == [noise.lstrip(b" \t\r,\x1e").rstrip()]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf_16_and_32_become_utf_8(encoding: str, mark: str) -> None:
    """Text with a byte order mark, or JSON without one, is converted, in whatever pieces it comes."""
    text = '{"s":"ü€😀"}\n{"t":[1]}\n'
    stored = (mark + text).encode(encoding)
    for piece_bytes in (1, 3, 4096):
        assert unpack(stored, piece_bytes=piece_bytes).replace("\ufeff".encode(), b"") == text.encode()
    assert unpack(gzipped(stored)) == unpack(stored)
    with pytest.raises(FileCorrupt, match=f"not valid UTF-{encoding[4:6]}"):
        unpack(stored[:-1])


def test_half_a_surrogate_pair_in_utf_16_costs_its_event_only() -> None:
    """What has no form in UTF-8 is set aside, and the events around it arrive."""
    stored = b"\xff\xfe" + '{"a":1}\n{"b":"\ud83d"}\n{"c":3}\n'.encode("utf-16-le", "surrogatepass")
    result = frame(unpack(stored))
    assert result.events == [b'{"a":1}', b'{"c":3}']
    assert result.stretches[0].reason.startswith("not valid UTF-8")


def test_a_reading_can_be_ended_anywhere() -> None:
    """The checkpoint is called for every piece that is read or unpacked, and for many parts without content."""

    class Ended(Exception):
        pass

    def end_after(calls: int) -> Callable[[], None]:
        left = iter(range(calls))

        def checkpoint() -> None:
            if next(left, None) is None:
                raise Ended

        return checkpoint

    for stored in (LINES, gzipped(b" " * 20 * MIB), gzip.compress(b"", mtime=0) * 5000):
        with pytest.raises(Ended):
            for _ in decompress(
                [stored, b""], key="k", size_bytes=len(stored), limits=ReadLimits(), checkpoint=end_after(1)
            ):
                pass
