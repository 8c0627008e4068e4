"""Snappy, in its own framing format and in Hadoop's.

The first is google/snappy's framing_format.txt. The second is what Hadoop's BlockCompressorStream writes: blocks, each
its unpacked length and then one or more chunks, each its stored length and raw snappy; a length is four bytes, the big
end first. It has no checksum, and no magic number either.
"""

from collections.abc import Iterator

from export_pipeline.errors import FileCorrupt, FileOverLimit
from export_pipeline.source.limits import KIB, MIB

_PIECE_BYTES = 256 * KIB
_IDENTIFIER = b"\xff\x06\0\0sNaPpY"
_COMPRESSED, _PLAIN, _FIRST_SKIPPABLE = 0x00, 0x01, 0x80
_HEADER_BYTES = 4
# Hadoop's own writer makes chunks of at most 256 KiB.
_MAX_CHUNK_BYTES = 64 * MIB


class _Stored:
    """Stored bytes, by the length."""

    def __init__(self, chunks: Iterator[bytes], key: str) -> None:
        self._chunks = chunks
        self._key = key
        self._rest = memoryview(b"")

    def read(self, length: int) -> bytes:
        """The next *length* bytes.

        Raises:
            FileCorrupt: there are fewer.
        """
        parts = []
        while length:
            if self.is_at_end():
                raise FileCorrupt(self._key, "the snappy data is truncated")
            part = self._rest[:length]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def is_at_end(self) -> bool:
        """Whether all has been read."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._rest = memoryview(chunk)
        return False


def unpack_framed_snappy(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """What snappy's own framing format holds, in pieces.

    Raises:
        FileCorrupt: truncated, a wrong checksum, or a chunk of a kind that must not be skipped.
    """
    from cramjam import DecompressionError, snappy

    stored = _Stored(chunks, key)
    while not stored.is_at_end():
        header = stored.read(_HEADER_BYTES)
        body = stored.read(int.from_bytes(header[1:], "little"))
        kind = header[0]
        if kind not in {_COMPRESSED, _PLAIN}:
            if kind < _FIRST_SKIPPABLE:
                raise FileCorrupt(key, f"the snappy data holds a chunk of the unknown kind {kind:#04x}")
            continue
        try:
            piece = bytes(snappy.decompress(_IDENTIFIER + header + body))
        except DecompressionError as error:
            raise FileCorrupt(key, f"the snappy data is damaged: {error}") from None
        if piece:
            yield piece


def unpack_hadoop_snappy(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """What Hadoop's block format holds, in pieces.

    Raises:
        FileCorrupt: truncated, or its lengths contradict each other.
        FileOverLimit: a chunk is too large to be held.
    """
    from cramjam import DecompressionError, snappy

    stored = _Stored(chunks, key)
    while not stored.is_at_end():
        missing = int.from_bytes(stored.read(4), "big")
        while missing:
            chunk = stored.read(_bounded(int.from_bytes(stored.read(4), "big"), key))
            try:
                length = _bounded(snappy.decompress_raw_len(chunk), key)
                if not 0 < length <= missing:
                    raise FileCorrupt(key, f"a snappy block of {missing} bytes holds a chunk of {length}")
                view = memoryview(snappy.decompress_raw(chunk))
            except DecompressionError as error:
                raise FileCorrupt(key, f"the snappy data is damaged: {error}") from None
            missing -= length
            for at in range(0, length, _PIECE_BYTES):
                yield bytes(view[at : at + _PIECE_BYTES])


def is_hadoop_snappy(head: bytes) -> bool:
    """Whether a file can begin like this: the two lengths, and the one in raw snappy's preamble, fit together."""
    if len(head) < 2 * _HEADER_BYTES + 1:
        return False
    unpacked, stored = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    preamble = head[2 * _HEADER_BYTES : 2 * _HEADER_BYTES + 5]
    length = 0
    for n, byte in enumerate(preamble):
        length |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            # The most that raw snappy needs is its source's MaxCompressedLength.
            return 0 < length <= unpacked and len(preamble[: n + 1]) < stored <= 32 + length + length // 6
    return False


def _bounded(length: int, key: str) -> int:
    if length > _MAX_CHUNK_BYTES:
        raise FileOverLimit(key, f"a snappy chunk has {length} bytes, allowed are {_MAX_CHUNK_BYTES}")
    return length
