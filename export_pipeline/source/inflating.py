"""Gzip's members and zlib's streams, by isal."""

from typing import Literal, cast

from isal import isal_zlib

# zlib.h, inflateInit2: 16 more than the window's size means gzip.
_WBITS = {"zlib": 15, "gzip": 31}
Inflated = Literal["gzip", "zlib"]

# isal's stub takes its exception class for an exception.
ERROR = cast("type[Exception]", isal_zlib.error)
"""Damaged, or a wrong checksum."""


class Inflater:
    """Unpacks one member or stream, and checks its checksum; used as the decompressors of bz2, lzma and zstd are.

    isal has one of this shape, too (``IgzipDecompressor``), but that one grows and copies its output: 350 MB take it
    0.33 s, and this 0.19.

    Args:
        form: what the stored bytes are.
    """

    def __init__(self, form: Inflated) -> None:
        self._inflate = isal_zlib.decompressobj(wbits=_WBITS[form])
        self._is_full = False

    @property
    def eof(self) -> bool:
        """The end, checksum included, has been seen."""
        return bool(self._inflate.eof)

    @property
    def needs_input(self) -> bool:
        """Nothing is left of what was given. Where a piece is full, more of it may still come out."""
        return not self._is_full and not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """What was given behind the end."""
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        """At most *max_length* of the unpacked bytes that come next.

        Raises:
            ERROR: damaged, or a wrong checksum.
        """
        tail = self._inflate.unconsumed_tail
        piece = self._inflate.decompress(tail + data if tail else data, max_length)
        self._is_full = len(piece) == max_length
        return piece
