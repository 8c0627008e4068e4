"""Objects in a bucket of S3, Google or Azure."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from export_pipeline.errors import ObjectMissing, StoreError
from export_pipeline.storage.folders import brief
from export_pipeline.storage.location import Location
from export_pipeline.storage.objects import Objects, checked_name
from export_pipeline.storage.settings import StoreSettings

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

T = TypeVar("T")

_LISTED = 1_000
_DELETED = 1_000
# Larger objects are uploaded in parts. An interrupted PUT leaves nothing behind, an interrupted multipart upload does.
_SINGLE_PUT_BYTES = 64 * 1024 * 1024


class BucketObjects(Objects):
    """One object of the bucket per object.

    Args:
        location: of scheme ``s3``, ``gs`` or ``az``.
        settings: how to log in. No request is made yet.
    """

    is_local = False

    def __init__(self, location: Location, settings: StoreSettings) -> None:
        self.url = location.url
        self._location = location
        self._settings = settings
        self._opening = Lock()

    def put(self, name: str, data: bytes) -> None:
        key = self._key(name)
        multipart = len(data) > _SINGLE_PUT_BYTES
        self._do("written", name, lambda: self._store.put(key, data, use_multipart=multipart))

    def get(self, name: str) -> bytes:
        key = self._key(name)
        return self._do("read", name, lambda: self._store.get(key).bytes().to_bytes())

    def exists(self, name: str) -> bool:
        key = self._key(name)
        try:
            self._do("found", name, lambda: self._store.head(key))
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        below = self._location.prefix
        folder = below + (checked_name(prefix.rstrip("/")) + "/" if prefix else "")
        pages = self._do("listed", prefix, lambda: self._store.list(folder or None, chunk_size=_LISTED))
        while page := self._do("listed", prefix, lambda: next(pages, None)):
            for meta in page:
                yield meta["path"][len(below) :]

    def delete(self, name: str) -> None:
        self._delete([name])

    def delete_prefix(self, prefix: str) -> int:
        count = 0
        names = self.list(prefix)
        while some := list(islice(names, _DELETED)):
            self._delete(some)
            count += len(some)
        return count

    @property
    def _store(self) -> "S3Store | GCSStore | AzureStore":
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> "S3Store | GCSStore | AzureStore":
        from export_pipeline.storage.remote import open_store

        return open_store(self._location, self._settings)

    def _key(self, name: str) -> str:
        return self._location.prefix + checked_name(name)

    def _delete(self, names: Sequence[str]) -> None:
        for name in names if self._location.scheme != "s3" else ():
            # Google and Azure report an error if the object to delete does not exist.
            self._delete_one(name)
        if self._location.scheme == "s3":
            keys = [self._key(name) for name in names]
            self._do("deleted", names[0], lambda: self._store.delete(keys))

    def _delete_one(self, name: str) -> None:
        try:
            self._do("deleted", name, lambda: self._store.delete(self._key(name)))
        except ObjectMissing:
            return

    def _do(self, done: str, name: str, call: Callable[[], T]) -> T:
        from obstore.exceptions import BaseError

        try:
            return call()
        except FileNotFoundError:
            raise ObjectMissing(f"{self.url}: {name} does not exist") from None
        except (BaseError, OSError) as error:
            raise StoreError(f"{self.url}: {name} could not be {done}: {brief(error)}") from None
