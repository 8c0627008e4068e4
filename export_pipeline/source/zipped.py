"""Zip archives. Their table of contents lies at the end, so they are put on disk first, as they are stored."""

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from tempfile import TemporaryFile
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from export_pipeline.errors import FileCorrupt, FileOverLimit
from export_pipeline.source.limits import KIB, MIB

_PIECE_BYTES = 256 * KIB
# Each entry in the table of contents takes about ten times its length in memory.
_MAX_CONTENTS_BYTES = 4 * MIB
_END = b"PK\x05\x06"
_END_BYTES = 22
_MAX_COMMENT_BYTES = 64 * KIB
_IN_ZIP64 = 0xFFFF  # the number of entries stands elsewhere
# zipfile unpacks the other methods without a bound on what one step yields.
_METHODS = {ZIP_STORED, ZIP_DEFLATED}


def unpack_zip(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The files in an archive, one after the other, in pieces.

    Raises:
        FileCorrupt: truncated, a wrong checksum, encrypted, or a compression other than none and deflate.
        FileOverLimit: its table of contents is too long.
    """
    with TemporaryFile() as spool:
        for chunk in chunks:
            spool.write(chunk)
        announced = _announced_entries(spool, key)
        try:
            with ZipFile(spool) as archive:
                found = len(archive.infolist())
                if announced not in (found, _IN_ZIP64):
                    raise FileCorrupt(key, f"the zip archive announces {announced} entries and lists {found}")
                yield from _unpack_files(archive, key)
        except (BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
            raise FileCorrupt(key, f"the zip archive is damaged: {error}") from None
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place before the beginning of the file
                raise
            raise FileCorrupt(key, "the zip archive is damaged: its table of contents points outside of it") from None


def _unpack_files(archive: ZipFile, key: str) -> Iterator[bytes]:
    last = b"\n"
    for entry in archive.infolist():
        # Not is_dir(): before Python 3.12 it raises IndexError where an entry has no name.
        if entry.filename.endswith("/"):
            continue
        if entry.compress_type not in _METHODS:
            raise FileCorrupt(
                key, f"the zip archive uses compression method {entry.compress_type}, allowed are 0 and 8"
            )
        with archive.open(entry) as file:
            for n, piece in enumerate(iter(partial(file.read, _PIECE_BYTES), b"")):
                if n == 0 and last != b"\n":
                    yield b"\n"
                yield piece
                last = piece[-1:]


def _announced_entries(spool: IO[bytes], key: str) -> int:
    """The number of entries according to the end of the archive.

    Raises:
        FileCorrupt: there is no such end.
        FileOverLimit: the table of contents, which is read whole, is too long.
    """
    size = spool.seek(0, os.SEEK_END)
    spool.seek(max(0, size - _END_BYTES - _MAX_COMMENT_BYTES))
    tail = spool.read()
    end = tail.rfind(_END, 0, max(0, len(tail) - _END_BYTES + len(_END)))
    if end < 0:
        raise FileCorrupt(key, "the zip archive is truncated")
    entries, contents_bytes = struct.unpack_from("<HL", tail, end + 10)
    if contents_bytes > _MAX_CONTENTS_BYTES:
        most = _MAX_CONTENTS_BYTES
        raise FileOverLimit(key, f"the zip archive's table of contents has {contents_bytes} bytes, allowed are {most}")
    return int(entries)
