"""Named objects in any store: what staging, quarantine and the ``files`` subscriber write to."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from export_pipeline.errors import StoreError
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.settings import StoreSettings


class Objects(ABC):
    """A folder of objects. Names are relative paths with ``/``. Thread-safe.

    Attributes:
        url: normalised and without credentials.
        is_local: whether it is a folder of this machine, not a bucket.
    """

    url: str
    is_local: bool

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write the whole object atomically, replacing an older one: readers see none, the old or the new one.

        Raises:
            StoreError: the store failed despite retries.
        """

    def put_parts(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """:meth:`put` the concatenation of *parts*.

        Raises:
            StoreError: the store failed despite retries.
        """
        self.put(name, b"".join(parts))

    def put_file(self, name: str, data: bytes, file: str) -> None:
        """:meth:`put` the content of the local file *file*, which is exactly *data*. It may be linked, not copied.

        Raises:
            StoreError: the store failed despite retries.
        """
        self.put(name, data)

    def path(self, name: str) -> str | None:
        """Path of the object on this machine; None in a bucket."""
        return None

    @abstractmethod
    def get(self, name: str) -> bytes:
        """The object's bytes.

        Raises:
            ObjectMissing: it does not exist.
            StoreError: the store failed despite retries.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether the object exists."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Names below the folder *prefix* (empty: all), in undefined order."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete the object; no error if it does not exist."""

    @abstractmethod
    def delete_prefix(self, prefix: str) -> int:
        """Delete every object below the folder *prefix* (empty: all), and return how many there were."""


def open_objects(
    url: str, settings: StoreSettings | None = None, *, private: bool = False, durable: bool = False
) -> Objects:
    """The objects below *url*, in any form that a source's URL may have.

    Args:
        url: ``s3://…``, ``gs://…``, ``az://…``, ``file:///…`` or a path.
        settings: how to log in; by default everything comes from the usual chain.
        private: for local folders: created with mode 0700, files with 0600.
        durable: for local folders: :meth:`Objects.put` waits for the disk (fsync). Other stores always wait.

    Raises:
        ConfigurationError: the URL has none of the supported forms.
    """
    location = parse_location(url)
    if location.scheme == "file":
        from export_pipeline.storage.objects_local import FolderObjects

        return FolderObjects(location, private=private, durable=durable)
    from export_pipeline.storage.objects_remote import BucketObjects

    return BucketObjects(location, settings or StoreSettings())


def checked_name(name: str) -> str:
    """*name*, if it is a plain relative path.

    Raises:
        StoreError: it could leave the folder, or no store would accept it.
    """
    if not name or "\0" in name or any(part in {"", ".", ".."} for part in name.split("/")):
        raise StoreError(f"{name!r} is not a valid object name: allowed are parts joined by single slashes")
    return name
