"""A local folder as a source, listed in the order in which a bucket would be."""

import errno
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from export_pipeline.errors import FileForbidden, FileGone, FileReplaced, FileUnreachable, ListingFailed
from export_pipeline.printable import printable
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source
from export_pipeline.storage.folders import brief
from export_pipeline.storage.location import Location

logger = logging.getLogger(__name__)

# A folder that cannot be entered for one of these reasons hides only its own files; other errors are disk failures.
_OF_ONE_FOLDER = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class _Range:
    """The requested keys."""

    after: str
    prefix: str
    before: str | None

    def has(self, key: str) -> bool:
        return key > self.after and key.startswith(self.prefix) and (self.before is None or key < self.before)

    def may_be_below(self, folder: str) -> bool:
        """Whether a key that begins with *folder*, which ends in a slash, can be in the range."""
        if not (folder.startswith(self.prefix) or self.prefix.startswith(folder)):
            return False
        if self.before is not None and folder >= self.before:
            return False
        return folder > self.after or self.after.startswith(folder)


class LocalSource(Source):
    """Regular files below a folder; a key is the path relative to it, with ``/``.

    Anything that is neither a file nor a folder is not listed. Symbolic links are followed as long as they stay inside
    the folder; links that leave it, names that are not UTF-8, and folders that cannot be entered are left out with a
    warning. A file should appear in the folder complete, by a rename: one that grows while it is read is rejected, and
    one that grows afterwards is a new file, as in a bucket.

    The etag consists of the modification time in nanoseconds and the size. The inode is not part of it, because network
    file systems and restored copies assign new ones to the same content.

    Args:
        location: of scheme ``file``.
    """

    def __init__(self, location: Location) -> None:
        self.url = location.url
        self._root = location.prefix

    def list_all(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """As :meth:`Source.list_all`. Memory holds the names of one folder per level of depth."""
        try:
            root = os.path.realpath(self._root, strict=True)
            yield from self._walk(root, "", _Range(after, prefix, before), frozenset(), os.path.join(root, ""))
        except OSError as error:
            raise ListingFailed(
                f"{self.url} could not be listed: {printable(str(error.filename))}: {brief(error)}"
            ) from None

    def _walk(
        self, folder: str, key: str, wanted: _Range, above: frozenset[tuple[int, int]], root: str
    ) -> Iterator[SourceFile]:
        """Files below *folder*, whose keys begin with *key*; *above* holds the parent folders, to detect loops."""
        try:
            here = os.stat(folder)
            identity = (here.st_dev, here.st_ino)
            if identity in above:
                return
            entries = self._entries(folder, key, wanted, root)
        except OSError as error:
            if not key or error.errno not in _OF_ONE_FOLDER:
                raise
            self.left_out.trouble(key, f"the folder cannot be listed: {brief(error)}")
            return
        for name, is_folder in entries:
            path = os.path.join(folder, name)
            try:
                if is_folder:
                    yield from self._walk(path, f"{key}{name}/", wanted, above | {identity}, root)
                else:
                    status = os.stat(path)
                    if stat.S_ISREG(status.st_mode):
                        yield self._file(key + name, status)
            except (FileNotFoundError, NotADirectoryError):
                # Removed since the folder was read: as if the listing had been made a moment later.
                continue
            except PermissionError as error:
                # The folder may be read but not entered: only names are visible.
                self.left_out.trouble(key + name, f"it cannot be examined: {brief(error)}")

    def _entries(self, folder: str, key: str, wanted: _Range, root: str) -> list[tuple[str, bool]]:
        """The names in *folder* that matter, each with whether it is a folder, in the order of the keys below them."""
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if not self._is_utf8(key, entry.name):
                    continue
                if entry.is_symlink() and not self._stays_inside(entry.path, key + entry.name, root):
                    continue
                is_folder = entry.is_dir()
                full = f"{key}{entry.name}/" if is_folder else key + entry.name
                if is_folder and (pattern := self.ignored.pattern_of(full)) is not None:
                    self.left_out.ignore(full, pattern)
                    continue
                if wanted.may_be_below(full) if is_folder else wanted.has(full):
                    found.append((entry.name, is_folder))
        # A folder counts as its name and a slash, since its keys begin with that: "a.gz" is before "a/b".
        found.sort(key=lambda item: item[0] + "/" if item[1] else item[0])
        return found

    def _file(self, key: str, status: os.stat_result) -> SourceFile:
        """The file with its modification time; if that is implausible, with the time at which it arrived here."""
        modified = _moment(status.st_mtime_ns)
        if modified is None:
            modified = _moment(status.st_ctime_ns) or datetime.now(timezone.utc).replace(microsecond=0)
            seconds = status.st_mtime_ns // 1_000_000_000
            reason = f"its modification time, {seconds} s after 1970, is out of range; {modified} is used instead"
            self.left_out.trouble(key, reason, is_lost=False)
        return SourceFile(key, _etag(status), status.st_size, modified)

    def _stays_inside(self, path: str, key: str, root: str) -> bool:
        try:
            if os.path.realpath(path, strict=True).startswith(root):
                return True
        except OSError as error:
            logger.warning("%s: the symbolic link %s is left out: %s", self.url, printable(path), brief(error))
            self.left_out.trouble(key, f"the symbolic link is left out: {brief(error)}", is_lost=False)
            return False
        logger.warning("%s: the symbolic link %s leads out of the source and is left out", self.url, printable(path))
        self.left_out.trouble(key, "the symbolic link leads out of the source and is left out", is_lost=False)
        return False

    def _is_utf8(self, folder: str, name: str) -> bool:
        try:
            name.encode()
        except UnicodeEncodeError:
            logger.warning("the file name %r is not UTF-8 and is left out", name)
            self.left_out.trouble(folder + name, "the name is not UTF-8 and is left out")
            return False
        return True

    def read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        """As :meth:`Source.read_range`; the file is compared with the listing before and after it is read."""
        path = os.path.join(self._root, *file.key.split("/"))
        try:
            with open(path, "rb", buffering=0, opener=_open) as opened:
                self._check_inside(file, path, opened.fileno())
                _check(file, os.fstat(opened.fileno()))
                data = _read(opened.fileno(), start, stop)
                _check(file, os.fstat(opened.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            if not os.path.isdir(self._root):
                raise FileUnreachable(file.key, f"the folder {printable(self._root)} does not exist") from None
            raise FileGone(file.key, "the file does not exist") from None
        except IsADirectoryError:
            raise FileReplaced(file.key, "a folder has replaced it") from None
        except PermissionError as error:
            raise FileForbidden(file.key, brief(error)) from None
        except OSError as error:
            raise FileUnreachable(file.key, brief(error)) from None
        if len(data) != stop - start:
            raise FileUnreachable(file.key, f"{len(data)} bytes could be read at {start}, expected {stop - start}")
        return data

    def _check_inside(self, file: SourceFile, path: str, descriptor: int) -> None:
        """The opened file is inside the source: a link may have replaced a listed file, a key may contain ``..``."""
        root = os.path.join(os.path.realpath(self._root), "")
        # Linux reports the path of what was really opened.
        if os.path.islink(f"/proc/self/fd/{descriptor}"):
            real = os.readlink(f"/proc/self/fd/{descriptor}")
        else:
            real = os.path.realpath(path)
        if not real.startswith(root):
            raise FileForbidden(file.key, "it leads out of the source")

    def close(self) -> None:
        """Nothing is held open."""


def _open(path: str, flags: int) -> int:
    """Open *path* without blocking, as opening a pipe that has replaced a file would until someone writes to it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _moment(nanoseconds: int) -> datetime | None:
    """The second; None before 1970 and after 9999, when no file was written."""
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if nanoseconds > 0 else None


def _etag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _check(file: SourceFile, status: os.stat_result) -> None:
    if _etag(status) != file.etag:
        raise FileReplaced(file.key, f"its etag is {_etag(status)} now, {file.etag} was listed")


def _read(descriptor: int, start: int, stop: int) -> bytes:
    pieces = []
    while start < stop:
        piece = os.pread(descriptor, stop - start, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
