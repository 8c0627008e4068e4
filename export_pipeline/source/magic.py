"""Detects a file's compression or container from its magic bytes, whatever its name; names unsupported formats.

Magic bytes that could also begin a text, such as Parquet's ``PAR1``, count only if what follows is not text.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from export_pipeline.errors import FileCorrupt
from export_pipeline.source import chains
from export_pipeline.source.columnar_process import unpack_orc, unpack_parquet
from export_pipeline.source.snappy import (
    FRAMED_MAGIC,
    XERIAL_MAGIC,
    is_hadoop_snappy,
    unpack_framed_snappy,
    unpack_hadoop_snappy,
    unpack_xerial_snappy,
)
from export_pipeline.source.text import has_controls
from export_pipeline.source.unpacking import Unpacking
from export_pipeline.source.zipped import unpack_zip

HEAD_BYTES = 512
"""How much of a file is examined. The magic bytes furthest from the start are tar's."""

_TAR_AT = 257
# Text formats, but without events.
_NEVER_TEXT = {b"%PDF-", b"-----BEGIN PGP MESSAGE", b"age-encryption.org/", b"!<arch>\n"}


_Unpack = Callable[[Iterator[bytes], Unpacking], Iterator[bytes]]


class Packing(NamedTuple):
    """A compression or container format that can be read.

    Attributes:
        name: as people call it.
        files: turns the stored pieces of a file into those of each file in it, which must be taken in order.
        is_spooled: it is written to disk first, since its directory is at the end.
        is_table: the output is JSON lines, which cannot be compressed again.
    """

    name: str
    files: Callable[[Iterator[bytes], Unpacking], Iterator[Iterator[bytes]]]
    is_spooled: bool = False
    is_table: bool = False


def _stream(name: str, unpack: _Unpack) -> Packing:
    return Packing(name, lambda pieces, job: iter((unpack(pieces, job),)))


def _table(name: str, unpack: Callable[[Iterator[bytes], str], Iterator[bytes]]) -> Packing:
    files = lambda pieces, job: iter((unpack(pieces, job.key),))  # noqa: E731
    return Packing(name, files, is_spooled=True, is_table=True)


_GZIP = _stream("gzip", chains.unpack_gzip)
_ZLIB = _stream("zlib", chains.unpack_zlib)
_BZIP2 = _stream("bzip2", chains.unpack_bzip2)
_LEGACY_LZ4 = _stream("lz4", chains.unpack_legacy_lz4)
_SKIPPABLE = _stream("zstd or lz4", chains.unpack_skippable)
_HADOOP_SNAPPY = _stream("snappy", unpack_hadoop_snappy)
_ZIP = Packing("zip", unpack_zip, is_spooled=True)
_PARQUET = _table("Parquet", unpack_parquet)

_BY_MAGIC: dict[bytes, Packing] = {
    b"\x1f\x8b": _GZIP,
    b"\x28\xb5\x2f\xfd": _stream("zstd", chains.unpack_zstd),
    b"BZh": _BZIP2,
    b"\xfd7zXZ\0": _stream("xz", chains.unpack_xz),
    chains.LZ4_MAGIC: _stream("lz4", chains.unpack_lz4),
    chains.LEGACY_LZ4_MAGIC: _LEGACY_LZ4,
    b"PK\x03\x04": _ZIP,
    b"PK\x05\x06": _ZIP,
    b"PAR1": _PARQUET,
    b"PARE": _PARQUET,
    b"ORC": _table("ORC", unpack_orc),
    FRAMED_MAGIC: _stream("snappy", unpack_framed_snappy),
    XERIAL_MAGIC: _stream("snappy", unpack_xerial_snappy),
    b"\x78\x01": _ZLIB,
    b"\x78\x5e": _ZLIB,
    b"\x78\x9c": _ZLIB,
    b"\x78\xda": _ZLIB,
}

SUPPORTED = "gzip, zlib, zstd, bzip2, xz, lz4, snappy, zip, Parquet and ORC"

REFUSED: dict[bytes, str] = {
    b"\x89LZO\0\r\n\x1a\n": "lzop",
    b"\x1f\x9d": "compress (.Z)",
    b"\x1f\xa0": "compress (LZH)",
    b"\x1f\x1e": "pack (.z)",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"LZIP\x00": "lzip",
    b"LZIP\x01": "lzip",
    b"LRZI\0": "lrzip",
    b"\x5d\0\0": "lzma (.lzma)",
    b"\xce\xb2\xcf\x81": "brotli",
    b"bvx1": "lzfse",
    b"bvx2": "lzfse",
    b"bvxn": "lzfse",
    b"bvx-": "lzfse",
    b"snappy\0": "snappy by Dain Sundstrom's early snappy-java",
    b"ustar": "tar",
    b"070701": "cpio",
    b"070702": "cpio",
    b"070707": "cpio",
    b"\xc7\x71": "cpio",
    b"!<arch>\n": "ar",
    b"MSCF\0\0\0\0": "cab",
    b"PK\x07\x08": "a zip archive in several volumes",
    b"Obj\x01": "Avro",
    b"SEQ\x04": "Hadoop's SequenceFile",
    b"SEQ\x05": "Hadoop's SequenceFile",
    b"SEQ\x06": "Hadoop's SequenceFile",
    b"RCF\x01": "Hadoop's RCFile",
    b"ARROW1\0\0": "Arrow IPC",
    b"\xff\xff\xff\xff": "Arrow IPC (stream)",
    b"FEA1": "Feather",
    b"SQLite format 3\0": "SQLite",
    b"\xe0\x01\x00\xea": "Ion",
    b":)\n\x00": "Smile",
    b":)\n\x01": "Smile",
    b"\xd9\xd9\xf7": "CBOR",
    b"\x37\xa4\x30\xec": "a dictionary of zstd",
    b"Salted__": "OpenSSL's encryption",
    b"age-encryption.org/": "age's encryption",
    b"-----BEGIN PGP MESSAGE": "PGP's encryption",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "Microsoft's compound file (.xls, .doc)",
    b"%PDF-": "PDF",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
}
"""Magic bytes → name, for formats that are recognized but not supported."""


def recognise(head: bytes, key: str) -> Packing | None:
    """The packing of a file that begins with *head*, its first ``HEAD_BYTES``; None: it may be text.

    Raises:
        FileCorrupt: the format is recognized but not supported.
    """
    for magic, packing in _BY_MAGIC.items():
        if head.startswith(magic) and _is_no_text(magic, head):
            return packing
    if chains.is_skippable(head):
        return _SKIPPABLE
    if is_hadoop_snappy(head):
        return _HADOOP_SNAPPY
    for magic, name in REFUSED.items():
        at = _TAR_AT if name == "tar" else 0
        if head.startswith(magic, at) and _is_no_text(magic, head):
            raise FileCorrupt(key, f"{name} is not supported; supported are text (JSON) and {SUPPORTED}")
    return None


def _is_no_text(magic: bytes, head: bytes) -> bool:
    """Whether *head* cannot be a text that happens to begin like *magic*."""
    return not magic.isascii() or has_controls(magic) or magic in _NEVER_TEXT or has_controls(head)
