"""The folder or bucket for Parquet files: named objects, each written completely or not at all."""

import inspect
import os
import secrets
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from export_pipeline.errors import Blocked, DeliveryError, ObjectMissing, StoreError
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.objects_local import FolderObjects
from export_pipeline.subscribers.files import meaning_of_store
from export_pipeline.subscribers.warehouse_dlt import DltOptions, open_filesystem
from export_pipeline.subscribers.warehouse_errors import meaning

# Stores that write an object completely or not at all.
_BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl")


class Lake(ABC):
    """The files of one dataset. Names are relative paths with ``/``."""

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """The object's bytes; None if it does not exist."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write the whole object atomically, replacing an older one."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write the whole object atomically; False, without writing anything, if it already exists."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of the entries of *folder*, relative to it; empty if it does not exist."""

    @abstractmethod
    def check(self) -> None:
        """Connect, and leave nothing behind.

        Raises:
            Blocked: someone must act first.
        """

    @abstractmethod
    def meaning(self, error: Exception) -> DeliveryError:
        """The delivery error that an *error* of the store means."""

    def close(self) -> None:  # noqa: B027 (optional)
        """Close connections."""


def open_lake(options: DltOptions, schema: str) -> Lake | None:
    """The folder *schema* at the URL of *options*; None if only dlt can write there.

    Raises:
        ConfigurationError: the URL is not supported.
    """
    url = options.url or "."
    scheme = url.partition("://")[0].lower() if "://" in url else "file"
    if scheme == "file":
        return _LocalLake(url, schema)
    return _BucketLake(options, schema) if scheme in _BUCKETS else None


class _LocalLake(Lake):
    def __init__(self, url: str, schema: str) -> None:
        location = parse_location(url)
        self._root = location.prefix
        self._schema = schema
        self._objects = FolderObjects(location)

    def get(self, name: str) -> bytes | None:
        try:
            return self._objects.get(self._name(name))
        except ObjectMissing:
            return None

    def put(self, name: str, data: bytes) -> None:
        self._objects.put(self._name(name), data)

    def create(self, name: str, data: bytes) -> bool:
        written = self._name(f"{name}.{secrets.token_hex(8)}")
        self._objects.put(written, data)
        try:
            os.link(self._objects.path(written), self._objects.path(self._name(name)))
        except FileExistsError:
            return False
        except OSError:  # not every file system supports links
            if self._objects.exists(self._name(name)):
                return False
            self._objects.put(self._name(name), data)
        finally:
            with suppress(StoreError):
                self._objects.delete(written)
        return True

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._objects.path(self._name(folder)))
        except FileNotFoundError:
            return []

    def check(self) -> None:
        check_folder(self._root)

    def meaning(self, error: Exception) -> DeliveryError:
        if isinstance(error, StoreError):
            return meaning_of_store(error)
        return meaning(error, "filesystem", ())

    def _name(self, name: str) -> str:
        return f"{self._schema}/{name}"


class _BucketLake(Lake):
    """Uses the fsspec file system that dlt opens with these options and its own configuration."""

    def __init__(self, options: DltOptions, schema: str) -> None:
        self._options = options
        self._schema = schema
        self._opened: tuple[Any, str] | None = None

    def get(self, name: str) -> bytes | None:
        files, path = self._at(name)
        try:
            return bytes(files.cat_file(path))
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> None:
        files, path = self._at(name)
        files.pipe_file(path, data)

    def create(self, name: str, data: bytes) -> bool:
        files, path = self._at(name)
        write = getattr(files, "_pipe_file", files.pipe_file)
        if "mode" not in inspect.signature(write).parameters:  # older versions cannot create conditionally
            if files.exists(path):
                return False
            files.pipe_file(path, data)
            return True
        try:
            files.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def names(self, folder: str) -> list[str]:
        files, path = self._at(folder)
        try:
            found = files.ls(path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return [one.rstrip("/").rpartition("/")[2] for one in found]

    def check(self) -> None:
        self.names("")

    def meaning(self, error: Exception) -> DeliveryError:
        return meaning(error, "filesystem", self._options.secrets)

    def close(self) -> None:
        self._opened = None

    def _at(self, name: str) -> tuple[Any, str]:
        if self._opened is None:
            self._opened = open_filesystem(self._options)
        files, root = self._opened
        return files, "/".join(part for part in (root.rstrip("/"), self._schema, name) if part)


def check_folder(folder: str) -> None:
    """Check that files can be written below *folder*, which need not exist.

    Raises:
        Blocked: they cannot.
    """
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise Blocked(f"{folder} is not a directory")
    if not os.access(folder, os.W_OK):
        raise Blocked(f"no permission to write in {folder}")
