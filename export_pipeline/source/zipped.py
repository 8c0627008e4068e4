"""Zip archives. Their central directory is at the end, so they are written to disk first, as they are stored."""

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from export_pipeline.errors import FileCorrupt, FileOverLimit
from export_pipeline.source.file import KIB, MIB
from export_pipeline.source.unpacking import Unpacking

_PIECE_BYTES = 256 * KIB
# Each entry of it takes about ten times its length in memory.
_MAX_CONTENTS_BYTES = 4 * MIB
_ENTRY = b"PK\x03\x04"
_END = b"PK\x05\x06"
_END_BYTES = 22
_LOCAL_HEADER_BYTES = 30
_LENGTHS_AT = 26  # in the local header: the lengths of the name and of the extra field
_MAX_COMMENT_BYTES = 64 * KIB
_IN_ZIP64 = 0xFFFF  # the number of entries is recorded elsewhere
# With other methods, zipfile's output per step is unbounded.
_METHODS = {ZIP_STORED, ZIP_DEFLATED}


def unpack_zip(chunks: Iterator[bytes], job: Unpacking) -> Iterator[Iterator[bytes]]:
    """The files in an archive, one after the other, each in pieces; each must be read before the next.

    What macOS adds to archives is left out: ``__MACOSX/…`` and ``.DS_Store``.

    Raises:
        FileCorrupt: truncated, a wrong checksum, encrypted, entries that overlap or are missing in its central
            directory, or a compression other than none and deflate.
        FileOverLimit: its central directory is too long.
    """
    with TemporaryFile() as spool:
        for chunk in chunks:
            spool.write(chunk)
        announced = _announced_entries(spool, job.key)
        with _damage_as_an_error_of_the_file(job.key), ZipFile(spool) as archive:
            found = len(archive.infolist())
            if announced not in (found, _IN_ZIP64):
                raise FileCorrupt(job.key, f"the zip archive announces {announced} entries but lists {found}")
            _check_layout(archive, spool, job.key)
            yield from _unpack_files(archive, job)


@contextmanager
def _damage_as_an_error_of_the_file(key: str) -> Iterator[None]:
    try:
        yield
    except (BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise FileCorrupt(key, f"the zip archive is corrupt: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a position before the beginning of the file
            raise
        raise FileCorrupt(key, "the zip archive is corrupt: its central directory points outside it") from None


def _unpack_files(archive: ZipFile, job: Unpacking) -> Iterator[Iterator[bytes]]:
    for entry in archive.infolist():
        # Not is_dir(): before Python 3.12 it raises IndexError if an entry has no name.
        if entry.filename.endswith("/") or _is_of_macos(entry.filename):
            continue
        if entry.compress_type not in _METHODS:
            raise FileCorrupt(
                job.key, f"the zip archive uses compression method {entry.compress_type}, allowed are 0 and 8"
            )
        job.begin_part()
        with archive.open(entry) as file:
            yield _pieces(file, job.key, size_bytes=entry.file_size)


def _pieces(file: IO[bytes], key: str, *, size_bytes: int) -> Iterator[bytes]:
    read = 0
    with _damage_as_an_error_of_the_file(key):
        for piece in iter(partial(file.read, _PIECE_BYTES), b""):
            read += len(piece)
            yield piece
    if read != size_bytes:
        raise FileCorrupt(key, f"the zip archive is corrupt: an entry of {size_bytes} bytes contains {read}")


def _is_of_macos(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] == ".DS_Store"


def _check_layout(archive: ZipFile, spool: IO[bytes], key: str) -> None:
    """Check that the entries in the central directory are all there are, and that none overlap.

    Entries that share bytes unpack to more than any valid archive of that size. An unlisted entry would be dropped
    silently: two concatenated archives have only the second one's central directory.

    Raises:
        FileCorrupt: some overlap, or are outside the file, or one is not listed.
    """
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < 0:
            raise FileCorrupt(key, "the zip archive is corrupt: its central directory points outside it")
        if entry.header_offset < end:
            raise FileCorrupt(key, "the zip archive is corrupt: its entries overlap")
        _refuse_unlisted(spool, end, entry.header_offset, key)
        spool.seek(entry.header_offset + _LENGTHS_AT)
        lengths = spool.read(4).ljust(4, b"\0")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", lengths)) + entry.compress_size
    _refuse_unlisted(spool, end, archive.start_dir, key)


def _refuse_unlisted(spool: IO[bytes], start: int, stop: int, key: str) -> None:
    """Check that no entry begins between *start* and *stop*, a range without a listed entry."""
    spool.seek(start)
    last = b""
    while start < stop:
        piece = spool.read(min(_PIECE_BYTES, stop - start))
        if not piece:
            return
        if (at := (last + piece).find(_ENTRY)) >= 0:
            place = start - len(last) + at
            raise FileCorrupt(
                key,
                f"the zip archive has an entry at byte {place} that its central directory does not list (two archives "
                "in one file?)",
            )
        last = piece[1 - len(_ENTRY) :]
        start += len(piece)


def _announced_entries(spool: IO[bytes], key: str) -> int:
    """The number of entries according to the end of the archive.

    Raises:
        FileCorrupt: the end record is missing.
        FileOverLimit: the central directory, which is read whole, is too long.
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
        raise FileOverLimit(key, f"the zip archive's central directory has {contents_bytes} bytes, allowed are {most}")
    return int(entries)
