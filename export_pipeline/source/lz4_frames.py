"""lz4: the frame format of the program ``lz4``, and the legacy format of its first version and of Linux kernels."""

import struct
from collections.abc import Iterator

from lz4.block import LZ4BlockError
from lz4.block import decompress as unpack_block
from lz4.frame import LZ4FrameDecompressor

from export_pipeline.errors import FileCorrupt
from export_pipeline.source.chains import LEGACY_LZ4_MAGIC, LZ4_MAGIC
from export_pipeline.source.file import MIB
from export_pipeline.source.stored import Stored
from export_pipeline.source.unpacking import PIECE_BYTES, Unpacking

ERROR = RuntimeError
"""Corrupt data, or a wrong checksum."""

# lz4_Frame_format.md, "Legacy frame": blocks of 8 MiB; only the last one of a frame is shorter.
_LEGACY_BLOCK_BYTES = 8 * MIB
_MAX_LEGACY_STORED_BYTES = _LEGACY_BLOCK_BYTES + _LEGACY_BLOCK_BYTES // 255 + 16
_HAS_DICTIONARY = 0x01
_FLAGS_AT = 4
# Each call allocates as much memory as it may return.
_STEP_BYTES = 256 * 1024


class FrameDecompressor:
    """Decompresses one frame and verifies its checksums; same interface as the decompressors of bz2, lzma and zstd."""

    def __init__(self) -> None:
        self._frame = LZ4FrameDecompressor()
        self._head = b""
        self._is_full = False

    @property
    def eof(self) -> bool:
        """The end has been reached."""
        return bool(self._frame.eof)

    @property
    def needs_input(self) -> bool:
        """All input has been consumed. After a full piece, more output may still follow."""
        return not self._is_full and bool(self._frame.needs_input)

    @property
    def unused_data(self) -> bytes:
        """Input after the end."""
        return self._frame.unused_data or b""

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        """At most *max_length* of the next decompressed bytes.

        Raises:
            ERROR: corrupt data, a wrong checksum, or compressed with a dictionary.
        """
        if len(self._head) <= _FLAGS_AT:
            self._head += data[: _FLAGS_AT + 1 - len(self._head)]
            if (
                len(self._head) > _FLAGS_AT
                and self._head[_FLAGS_AT] & _HAS_DICTIONARY
                and self._head.startswith(LZ4_MAGIC)
            ):
                raise ERROR("it was compressed with a dictionary, which is not part of the file")
        length = min(max_length, _STEP_BYTES)
        piece = bytes(self._frame.decompress(data, length))
        self._is_full = len(piece) == length
        return piece


def unpack_legacy(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """The content of legacy frames, in pieces. The format has no checksum and no end marker.

    Raises:
        FileCorrupt: truncated, or corrupt.
    """
    stored = Stored(pieces, job.key, "lz4")
    while not stored.is_at_end():
        length = stored.read(4)
        if length == LEGACY_LZ4_MAGIC:
            continue
        job.begin_part()
        (stored_bytes,) = struct.unpack("<L", length)
        if not 0 < stored_bytes <= _MAX_LEGACY_STORED_BYTES:
            raise FileCorrupt(job.key, f"the lz4 data is corrupt: a block of {stored_bytes} bytes in the legacy format")
        try:
            block = memoryview(unpack_block(stored.read(stored_bytes), uncompressed_size=_LEGACY_BLOCK_BYTES))
        except LZ4BlockError as error:
            raise FileCorrupt(job.key, f"the lz4 data is corrupt: {error}") from None
        for at in range(0, len(block), PIECE_BYTES):
            yield bytes(block[at : at + PIECE_BYTES])
