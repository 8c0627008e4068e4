"""Named objects in any store: what staging, quarantine and the ``files`` subscriber write to."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from export_pipeline.errors import StoreError
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.settings import StoreSettings


class Objects(ABC):
    """A folder of objects. Names are relative paths with ``/``; safe to use from several threads.

    Attributes:
        url: normalised and without credentials.
        is_local: whether it is a folder of this machine, rather than a bucket.
    """

    url: str
    is_local: bool

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write the whole object at once, over an older one: a reader sees either none, the old or the new.

        Raises:
            StoreError: the store failed, retries included.
        """

    def put_parts(self, name: str, parts: Sequence[bytes | memoryview]) -> None:
        """:meth:`put` of all *parts*, one after the other.

        Raises:
            StoreError: the store failed, retries included.
        """
        self.put(name, b"".join(parts))

    def put_file(self, name: str, data: bytes, file: str) -> None:
        """:meth:`put` of what the file *file* of this machine holds: *data*, exactly. It may be shared, not copied.

        Raises:
            StoreError: the store failed, retries included.
        """
        self.put(name, data)

    def path(self, name: str) -> str | None:
        """Where the object lies on this machine; None in a bucket."""
        return None

    @abstractmethod
    def get(self, name: str) -> bytes:
        """The object's bytes.

        Raises:
            ObjectMissing: there is none.
            StoreError: the store failed, retries included.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such an object."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Names below the folder *prefix* (empty: all), in no order to rely on."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the object; it is no error if there is none."""

    @abstractmethod
    def delete_prefix(self, prefix: str) -> int:
        """Remove every object below the folder *prefix* (empty: all), and say how many there were."""


def open_objects(
    url: str, settings: StoreSettings | None = None, *, private: bool = False, durable: bool = False
) -> Objects:
    """The objects below *url*, which has the forms of a source's.

    Args:
        url: ``s3://…``, ``gs://…``, ``az://…``, ``file:///…`` or a path.
        settings: how to log in; by default all from the usual chain.
        private: for local folders: made with mode 0700, files with 0600.
        durable: for local folders: :meth:`Objects.put` waits until the disk has it (fsync). Other stores always do.

    Raises:
        ConfigurationError: the URL is none of the known ones.
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
        StoreError: it could leave the folder, or no store would take it.
    """
    if not name or "\0" in name or any(part in {"", ".", ".."} for part in name.split("/")):
        raise StoreError(f"{name!r} cannot be the name of an object: allowed are parts joined by single slashes")
    return name
