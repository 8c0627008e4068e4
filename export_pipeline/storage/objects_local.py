"""Objects as files in a local folder."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from export_pipeline.errors import ObjectMissing, StoreError
from export_pipeline.storage.folders import PRIVATE_FILE, PRIVATE_FOLDER, brief, make_folder
from export_pipeline.storage.location import Location
from export_pipeline.storage.objects import Objects, checked_name

_TRIES = 3
# For 5 MB in one piece, Linux allocates 2 MiB blocks in its page cache, which a virtual machine may have returned to
# its host while they were free: writing then takes up to ten times as long.
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Made:
    """What files inherit from the folder they are created in.

    Attributes:
        device, user, group: as numbers.
        mode: permissions.
        attributes: extended attributes, such as access control lists.
    """

    device: int
    user: int
    group: int
    mode: int
    attributes: dict[str, bytes]

    @classmethod
    def of(cls, file: int | str) -> "Made | None":
        """The values of this descriptor or path; None if Python cannot read all of them."""
        found = os.stat(file)
        try:
            attributes = {name: os.getxattr(file, name) for name in os.listxattr(file)}
        except (AttributeError, OSError):
            return None  # not every operating system or file system has such attributes
        return cls(found.st_dev, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), attributes)


def link(file: str, path: str, *, like: Made | None, beside: str) -> bool:
    """Make *path* a hard link to *file*, atomically and replacing an older file; returns whether it did.

    It does not if *file* has another link already: so modifying one delivered file never modifies another. Modifying a
    delivered file in place also modifies *file*: the checksum detects it, and the manifest is read again.

    Args:
        file: its name is known to nobody but this package. It gets the permissions of *like*.
        like: values of a file created where *path* is. Nothing is done if *file* has other attributes.
        beside: an unused name in the folder of *path*.
    """
    own = Made.of(file)
    if like is None or own is None or replace(own, mode=like.mode) != like:
        return False
    try:
        os.link(file, beside)
    except OSError:
        return False  # not every file system has links
    try:
        # Checked afterwards: another process may have linked it at the same time.
        if os.stat(beside).st_nlink != 2:
            return False
        if own.mode != like.mode:
            os.chmod(beside, like.mode)
        os.rename(beside, path)
        return True
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)


class FolderObjects(Objects):
    """A file per object, written under a temporary name beside its place and renamed.

    Args:
        location: of scheme ``file``; the folder is created with the first object.
        private: folders are created with mode 0700 and files with 0600, whatever the umask.
        durable: a written object survives a power failure, at the cost of waiting for the disk.
    """

    is_local = True

    def __init__(self, location: Location, *, private: bool = False, durable: bool = False) -> None:
        self.url = location.url
        self._root = location.prefix
        self._file_mode, self._folder_mode = (PRIVATE_FILE, PRIVATE_FOLDER) if private else (0o666, 0o777)
        self._durable = durable
        self._made: dict[str, Made | None] = {}

    def put(self, name: str, data: bytes) -> None:
        self.put_parts(name, [data])

    def put_parts(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        path = self.path(name)
        try:
            self._write(path, parts)
        except OSError as error:
            raise StoreError(f"{self.url}: {name} could not be written: {brief(error)}") from None

    def put_file(self, name: str, data: bytes, file: str) -> None:
        # Whatever prevents linking, even if the file is gone: data can still be written, or put reports why not.
        with suppress(OSError):
            if self._link(file, self.path(name)):
                return
        self.put(name, data)

    def path(self, name: str) -> str:
        return os.path.join(self._root, *checked_name(name).split("/"))

    def get(self, name: str) -> bytes:
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(f"{self.url}: {name} does not exist") from None
        except OSError as error:
            raise StoreError(f"{self.url}: {name} could not be read: {brief(error)}") from None

    def exists(self, name: str) -> bool:
        return os.path.isfile(self.path(name))

    def list(self, prefix: str = "") -> Iterator[str]:
        top = self.path(prefix.rstrip("/")) if prefix else self._root
        for folder, folders, files in os.walk(top, onerror=self._fail):
            folders.sort()
            below = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for file in sorted(files):
                if not _is_unfinished(file):
                    yield file if below == "." else f"{below}/{file}"

    def delete(self, name: str) -> None:
        try:
            os.unlink(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StoreError(f"{self.url}: {name} could not be deleted: {brief(error)}") from None

    def delete_prefix(self, prefix: str) -> int:
        count = sum(1 for _ in self.list(prefix))
        try:
            shutil.rmtree(self.path(prefix.rstrip("/")) if prefix else self._root)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreError(f"{self.url}: {prefix} could not be deleted: {brief(error)}") from None
        return count

    def _write(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        folder, unfinished = os.path.dirname(path), _unfinished(path)
        descriptor = self._create(unfinished, folder)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                for part in parts:
                    view = memoryview(part)
                    while view:
                        view = view[file.write(view[:_PIECE_BYTES]) :]
                if self._durable:
                    os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            if os.path.exists(unfinished):
                os.unlink(unfinished)
            raise
        if self._durable:
            _sync(folder)

    def _link(self, file: str, path: str) -> bool:
        """Make *path* a hard link to *file*, and return whether it is."""
        folder, unfinished = os.path.dirname(path), _unfinished(path)
        if folder not in self._made:
            descriptor = self._create(unfinished, folder)
            try:
                self._made[folder] = Made.of(descriptor)
            finally:
                os.close(descriptor)
                os.unlink(unfinished)
        if not link(file, path, like=self._made[folder], beside=unfinished):
            return False
        if self._durable:
            _sync(path)
            _sync(folder)
        return True

    def _create(self, path: str, folder: str) -> int:
        for tried in range(1, _TRIES + 1):
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._file_mode)
            except FileNotFoundError:
                # Created only if missing, and again if delete_prefix removed it in between.
                if tried == _TRIES:
                    raise
                make_folder(folder, self._folder_mode)
        raise AssertionError("unreachable")

    def _fail(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise StoreError(f"{self.url}: {error.filename} could not be listed: {brief(error)}")


def _unfinished(path: str) -> str:
    """A new name beside *path*, for the file until it is complete."""
    folder, base = os.path.split(path)
    # Truncated, since most file systems allow 255 bytes a name.
    return os.path.join(folder, f".{base[:50]}.{secrets.token_hex(8)}.tmp")


def _is_unfinished(file: str) -> bool:
    return file.startswith(".") and file.endswith(".tmp")


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
