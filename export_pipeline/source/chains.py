"""Formats made of concatenated parts: gzip members, zlib streams, zstd and lz4 frames, bzip2 and xz streams.

A file is decompressed in pieces of at most ``PIECE_BYTES``: a decompression bomb costs time until it hits a limit, but
no memory.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from export_pipeline.errors import FileCorrupt, FileOverLimit
from export_pipeline.source.file import KIB, MIB
from export_pipeline.source.stored import Stored, peek
from export_pipeline.source.unpacking import PIECE_BYTES, Unpacking

if TYPE_CHECKING:
    from export_pipeline.source.inflating import Inflated

# At the end of each part the decompressor copies its unused input, which is little if it was given little. So it is
# given more with each bite, until a part ends.
_FIRST_BITE_BYTES = 64 * KIB
_LAST_BITE_BYTES = MIB
# What zstd's --long=27 and xz's -9 need.
_MAX_WINDOW_LOG = 27
_MAX_XZ_BYTES = 128 * MIB

LZ4_MAGIC = b"\x04\x22\x4d\x18"
LEGACY_LZ4_MAGIC = b"\x02\x21\x4c\x18"
_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte from 0x50 to 0x5f


class _Decompressor(Protocol):
    """The common interface of the decompressors of isal, bz2, lzma and zstd."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Chain(NamedTuple):
    """How to decompress the parts of a chain.

    Attributes:
        new: makes the decompressor of one part, which verifies its checksum.
        errors: what the decompressor raises.
        is_padded: zeros may follow a part.
    """

    name: str
    new: Callable[[], _Decompressor]
    errors: tuple[type[Exception], ...]
    is_padded: bool = False


def unpack_gzip(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """All members, with zeros between them or after the last one."""
    return _unpack(pieces, job, _inflated("gzip", is_padded=True))


def unpack_zlib(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """All streams."""
    return _unpack(pieces, job, _inflated("zlib", is_padded=False))


def _inflated(form: "Inflated", *, is_padded: bool) -> _Chain:
    from export_pipeline.source.inflating import ERROR, Inflater

    return _Chain(form, lambda: Inflater(form), (ERROR,), is_padded)


def unpack_bzip2(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """All streams."""
    from bz2 import BZ2Decompressor

    return _unpack(pieces, job, _Chain("bzip2", BZ2Decompressor, (OSError,)))


def unpack_xz(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """All streams, with zeros between them or after the last one."""
    from lzma import FORMAT_XZ, LZMADecompressor, LZMAError

    form = _Chain("xz", lambda: LZMADecompressor(FORMAT_XZ, memlimit=_MAX_XZ_BYTES), (LZMAError,), is_padded=True)
    return _unpack(pieces, job, form)


def unpack_zstd(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """All frames; skippable ones contain no data."""
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

    options = {DecompressionParameter.window_log_max.value: _MAX_WINDOW_LOG}
    return _unpack(pieces, job, _Chain("zstd", lambda: ZstdDecompressor(options=options), (ZstdError,)))


def unpack_lz4(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """All frames of the format that the program ``lz4`` writes; skippable ones contain no data."""
    from export_pipeline.source.lz4_frames import ERROR, FrameDecompressor

    return _unpack(pieces, job, _Chain("lz4", FrameDecompressor, (ERROR,)))


def unpack_legacy_lz4(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """Frames of lz4's legacy format."""
    from export_pipeline.source.lz4_frames import unpack_legacy

    return unpack_legacy(pieces, job)


def unpack_skippable(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """The frames after skippable ones, which lz4 and zstd share: only the next frame shows which of the two it is.

    Raises:
        FileCorrupt: as for lz4 and zstd; or what follows is neither.
    """
    head, pieces = peek(pieces, 4)
    while is_skippable(head):
        job.begin_part()
        stored = Stored(pieces, job.key, "skippable")
        stored.skip(4)
        stored.skip(int.from_bytes(stored.read(4), "little"))
        head, pieces = peek(stored.rest(), 4)
    return (unpack_lz4 if head.startswith(LZ4_MAGIC) else unpack_zstd)(pieces, job)


def is_skippable(head: bytes) -> bool:
    """Whether a skippable frame begins here."""
    return head[1:4] == _SKIPPABLE and 0x50 <= head[0] <= 0x5F


class _Bites:
    """Cuts stored bytes into bites. Each is twice as large as the one before, up to a limit."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._size_bytes = _FIRST_BITE_BYTES

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            at = 0
            while at < len(piece):
                bite = piece[at : at + self._size_bytes]
                at += len(bite)
                self._size_bytes = min(2 * self._size_bytes, _LAST_BITE_BYTES)
                yield bite

    def begin_anew(self) -> None:
        """Continue with a small bite."""
        self._size_bytes = _FIRST_BITE_BYTES


def _unpack(pieces: Iterator[bytes], job: Unpacking, form: _Chain) -> Iterator[bytes]:
    part: _Decompressor | None = None
    bites = _Bites(pieces)
    for bite in bites:
        data = bite
        while data or (part is not None and not part.needs_input):
            if part is None:
                data = data.lstrip(b"\0") if form.is_padded else data
                if not data:
                    break
                job.begin_part()
                part = form.new()
            try:
                piece = part.decompress(data, PIECE_BYTES)
            except form.errors as error:
                raise _error_of(job.key, form.name, str(error)) from None
            data = b""
            if part.eof:
                data, part = part.unused_data, None
                bites.begin_anew()
            if piece:
                yield piece
    if part is not None:
        raise FileCorrupt(job.key, f"the {form.name} data is truncated")


def _error_of(key: str, name: str, message: str) -> FileCorrupt | FileOverLimit:
    if "memory" in message.lower():
        return FileOverLimit(key, f"the {name} data needs more than {_MAX_XZ_BYTES} bytes of memory to unpack")
    return FileCorrupt(key, f"the {name} data is corrupt: {message}")
