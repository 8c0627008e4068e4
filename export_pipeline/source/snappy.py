"""Snappy in three formats: its own framing format, Hadoop's, and snappy-java's.

The first is defined by google/snappy's framing_format.txt. The second is what Hadoop's BlockCompressorStream writes:
blocks, each with its decompressed length and then one or more chunks, each with its stored length and raw snappy;
lengths are four bytes, big-endian. It has neither a checksum nor magic bytes. The third is written by
SnappyOutputStream of xerial/snappy-java, which Kafka's clients use as well: a header with magic bytes and two versions,
and chunks as in Hadoop's.
"""

from collections.abc import Iterator

from export_pipeline.errors import FileCorrupt, FileOverLimit
from export_pipeline.source.file import KIB, MIB
from export_pipeline.source.stored import Stored
from export_pipeline.source.unpacking import Unpacking

_PIECE_BYTES = 256 * KIB
FRAMED_MAGIC = b"\xff\x06\0\0sNaPpY"
XERIAL_MAGIC = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16
_COMPRESSED, _PLAIN, _FIRST_SKIPPABLE = 0x00, 0x01, 0x80
_HEADER_BYTES = 4
# Hadoop's own writer makes chunks of at most 256 KiB.
_MAX_CHUNK_BYTES = 64 * MIB


def unpack_framed_snappy(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """The content of snappy's own framing format, in pieces.

    Raises:
        FileCorrupt: truncated, a wrong checksum, or a chunk type that must not be skipped.
    """
    from cramjam import DecompressionError, snappy

    stored = Stored(pieces, job.key, "snappy")
    while not stored.is_at_end():
        job.begin_part()
        header = stored.read(_HEADER_BYTES)
        body = stored.read(int.from_bytes(header[1:], "little"))
        kind = header[0]
        if kind not in {_COMPRESSED, _PLAIN}:
            if kind < _FIRST_SKIPPABLE:
                raise FileCorrupt(job.key, f"the snappy data has a chunk of the unknown type {kind:#04x}")
            continue
        try:
            piece = bytes(snappy.decompress(FRAMED_MAGIC + header + body))
        except DecompressionError as error:
            raise FileCorrupt(job.key, f"the snappy data is corrupt: {error}") from None
        if piece:
            yield piece


def unpack_hadoop_snappy(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """The content of Hadoop's block format, in pieces.

    Raises:
        FileCorrupt: truncated, or its lengths contradict each other.
        FileOverLimit: a chunk is too large to hold in memory.
    """
    stored = Stored(pieces, job.key, "snappy")
    while not stored.is_at_end():
        job.begin_part()
        missing = int.from_bytes(stored.read(4), "big")
        while missing:
            job.begin_part()
            chunk = _unpack_raw(stored.read(_bounded(int.from_bytes(stored.read(4), "big"), job.key)), job.key)
            if not 0 < len(chunk) <= missing:
                raise FileCorrupt(job.key, f"a snappy block of {missing} bytes contains a chunk of {len(chunk)}")
            missing -= len(chunk)
            yield from _pieces(chunk)


def unpack_xerial_snappy(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """The content of snappy-java's format, in pieces. Streams may be concatenated, each with its header.

    Raises:
        FileCorrupt: truncated, or corrupt.
        FileOverLimit: a chunk is too large to hold in memory.
    """
    stored = Stored(pieces, job.key, "snappy")
    while not stored.is_at_end():
        job.begin_part()
        length = stored.read(4)
        if length == XERIAL_MAGIC[:4]:
            if stored.read(_XERIAL_HEADER_BYTES - 4)[:4] != XERIAL_MAGIC[4:]:
                raise FileCorrupt(job.key, "the snappy data is corrupt: incomplete snappy-java header")
            continue
        yield from _pieces(_unpack_raw(stored.read(_bounded(int.from_bytes(length, "big"), job.key)), job.key))


def is_hadoop_snappy(head: bytes) -> bool:
    """Whether a file can begin like this: the two lengths, and the one in raw snappy's preamble, are consistent."""
    if len(head) < 2 * _HEADER_BYTES + 1:
        return False
    unpacked, stored = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    if stored > _MAX_CHUNK_BYTES:  # as the first characters of any text would mean
        return False
    preamble = head[2 * _HEADER_BYTES : 2 * _HEADER_BYTES + 5]
    length = 0
    for n, byte in enumerate(preamble):
        length |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            # The most that raw snappy needs is MaxCompressedLength in its source.
            return 0 < length <= unpacked and len(preamble[: n + 1]) < stored <= 32 + length + length // 6
    return False


def _unpack_raw(chunk: bytes, key: str) -> memoryview:
    """Decompress raw snappy, which contains its own decompressed length.

    Raises:
        FileCorrupt: it is corrupt.
        FileOverLimit: it is too large to hold in memory.
    """
    from cramjam import DecompressionError, snappy

    try:
        _bounded(snappy.decompress_raw_len(chunk), key)
        return memoryview(snappy.decompress_raw(chunk))
    except DecompressionError as error:
        raise FileCorrupt(key, f"the snappy data is corrupt: {error}") from None


def _pieces(chunk: memoryview) -> Iterator[bytes]:
    for at in range(0, len(chunk), _PIECE_BYTES):
        yield bytes(chunk[at : at + _PIECE_BYTES])


def _bounded(length: int, key: str) -> int:
    if length > _MAX_CHUNK_BYTES:
        raise FileOverLimit(key, f"a snappy chunk has {length} bytes, allowed are {_MAX_CHUNK_BYTES}")
    return length
