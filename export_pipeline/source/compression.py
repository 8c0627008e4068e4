"""From a file's bytes as stored to its bytes unpacked, by its first bytes, whatever its name says.

A file is unpacked piece by piece, and no piece is larger than ``PIECE_BYTES``: a decompression bomb costs the time
until it meets a limit, and no memory.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

from export_pipeline.errors import FileCorrupt, FileOverLimit
from export_pipeline.source.columnar import refuse_avro, unpack_orc, unpack_parquet
from export_pipeline.source.limits import KIB, MIB, ReadLimits
from export_pipeline.source.snappy import is_hadoop_snappy, unpack_framed_snappy, unpack_hadoop_snappy
from export_pipeline.source.zipped import unpack_zip

if TYPE_CHECKING:
    from export_pipeline.source.inflating import Inflated

PIECE_BYTES = 4 * MIB
"""Largest piece: unpacking it takes long beside the wait for the interpreter's lock before and after."""

_SNIFF_BYTES = 32
# At the end of each part of a chain, the decompressor copies what it has left: little, if it gets little at a time. So
# it gets more with each bite, until a part ends.
_FIRST_BITE_BYTES = 64 * KIB
_LAST_BITE_BYTES = MIB
# What --long=27 of zstd and -9 of xz need.
_MAX_WINDOW_LOG = 27
_MAX_XZ_BYTES = 128 * MIB

Unpacker = Callable[[Iterator[bytes], str], Iterator[bytes]]
"""From the pieces of a file as stored, and its key, to its pieces unpacked."""


class _Decompressor(Protocol):
    """What isal's, bz2's, lzma's and zstd's have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Chain(NamedTuple):
    """A format that is a chain of parts: gzip's members, zstd's frames, the streams of bzip2 and xz.

    Attributes:
        new: makes the decompressor of one part, which checks its checksum.
        errors: what the decompressor raises.
        is_padded: zeros may lie behind a part.
    """

    name: str
    new: Callable[[], _Decompressor]
    errors: tuple[type[Exception], ...]
    is_padded: bool = False


def decompress(chunks: Iterable[bytes], *, key: str, size_bytes: int, limits: ReadLimits) -> Iterator[bytes]:
    """The unpacked bytes of a file, in pieces of at most ``PIECE_BYTES``, none of them empty.

    The files in a zip archive follow each other in the archive's order; where one does not end with a line feed and
    another follows, a line feed is put between them. The rows of a Parquet or ORC file become lines of JSON.

    Args:
        chunks: the file as stored.
        key: for the error messages.
        size_bytes: of the file as listed.

    Raises:
        FileCorrupt: truncated, a wrong checksum, not what its first bytes announce, or not *size_bytes* long.
        FileOverLimit: it unpacks to more than the limits allow, or needs more memory for it.
    """
    most = limits.unpacked_bytes(size_bytes)
    unpacked = 0
    stored = _exactly(chunks, key, size_bytes)
    head = b""
    for chunk in stored:
        head += chunk
        if len(head) >= _SNIFF_BYTES:
            break
    for piece in _unpacker(head)(chain([head], stored), key):
        unpacked += len(piece)
        if unpacked > most:
            raise FileOverLimit(
                key,
                f"unpacks to more than {most} bytes from {size_bytes} (max_unpacked_bytes: "
                f"{limits.max_unpacked_bytes}, max_unpacked_ratio: {limits.max_unpacked_ratio})",
            )
        yield piece


def _unpacker(head: bytes) -> Unpacker:
    for magic, unpacker in _BY_MAGIC.items():
        if head.startswith(magic):
            return unpacker
    if head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:  # zstd's skippable frame
        return _unpack_zstd
    return unpack_hadoop_snappy if is_hadoop_snappy(head) else _unpack_nothing


def _exactly(chunks: Iterable[bytes], key: str, size_bytes: int) -> Iterator[bytes]:
    read = 0
    for chunk in chunks:
        read += len(chunk)
        yield chunk
    if read != size_bytes:
        raise FileCorrupt(key, f"{read} bytes were read, {size_bytes} were listed")


def _unpack_nothing(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    for chunk in chunks:
        for at in range(0, len(chunk), PIECE_BYTES):
            yield chunk[at : at + PIECE_BYTES]


def _unpack_gzip(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    return _unpack_chain(chunks, key, _inflated("gzip", is_padded=True))


def _unpack_zlib(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    return _unpack_chain(chunks, key, _inflated("zlib", is_padded=False))


def _inflated(form: "Inflated", *, is_padded: bool) -> _Chain:
    from export_pipeline.source.inflating import ERROR, Inflater

    return _Chain(form, lambda: Inflater(form), (ERROR,), is_padded)


def _unpack_bzip2(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    from bz2 import BZ2Decompressor

    return _unpack_chain(chunks, key, _Chain("bzip2", BZ2Decompressor, (OSError,)))


def _unpack_xz(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    from lzma import FORMAT_XZ, LZMADecompressor, LZMAError

    form = _Chain("xz", lambda: LZMADecompressor(FORMAT_XZ, memlimit=_MAX_XZ_BYTES), (LZMAError,), is_padded=True)
    return _unpack_chain(chunks, key, form)


def _unpack_zstd(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

    options = {DecompressionParameter.window_log_max.value: _MAX_WINDOW_LOG}
    return _unpack_chain(chunks, key, _Chain("zstd", lambda: ZstdDecompressor(options=options), (ZstdError,)))


class _Bites:
    """Cuts what is stored into bites. Each is twice as large as the one before, up to a limit."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._size_bytes = _FIRST_BITE_BYTES

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            at = 0
            while at < len(chunk):
                bite = chunk[at : at + self._size_bytes]
                at += len(bite)
                self._size_bytes = min(2 * self._size_bytes, _LAST_BITE_BYTES)
                yield bite

    def begin_anew(self) -> None:
        """Go on with a small one."""
        self._size_bytes = _FIRST_BITE_BYTES


def _unpack_chain(chunks: Iterator[bytes], key: str, form: _Chain) -> Iterator[bytes]:
    part: _Decompressor | None = None
    bites = _Bites(chunks)
    for bite in bites:
        data = bite
        while data or (part is not None and not part.needs_input):
            if part is None:
                data = data.lstrip(b"\0") if form.is_padded else data
                if not data:
                    break
                part = form.new()
            try:
                piece = part.decompress(data, PIECE_BYTES)
            except form.errors as error:
                raise _error_of(key, form.name, str(error)) from None
            data = b""
            if part.eof:
                data, part = part.unused_data, None
                bites.begin_anew()
            if piece:
                yield piece
    if part is not None:
        raise FileCorrupt(key, f"the {form.name} data is truncated")


def _error_of(key: str, name: str, message: str) -> FileCorrupt | FileOverLimit:
    if "memory" in message.lower():
        return FileOverLimit(key, f"the {name} data needs more than {_MAX_XZ_BYTES} bytes of memory to unpack")
    return FileCorrupt(key, f"the {name} data is damaged: {message}")


_BY_MAGIC: dict[bytes, Unpacker] = {
    b"\x1f\x8b": _unpack_gzip,
    b"\x28\xb5\x2f\xfd": _unpack_zstd,
    b"BZh": _unpack_bzip2,
    b"\xfd7zXZ\0": _unpack_xz,
    b"PK\x03\x04": unpack_zip,
    b"PK\x05\x06": unpack_zip,
    b"PAR1": unpack_parquet,
    b"PARE": unpack_parquet,
    b"ORC": unpack_orc,
    b"Obj\x01": refuse_avro,
    b"\xff\x06\0\0sNaPpY": unpack_framed_snappy,
    b"\x78\x01": _unpack_zlib,
    b"\x78\x5e": _unpack_zlib,
    b"\x78\x9c": _unpack_zlib,
    b"\x78\xda": _unpack_zlib,
}
