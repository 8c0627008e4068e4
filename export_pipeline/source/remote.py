"""Buckets as a source: reads at the listed etag through obstore, and lists Google Cloud Storage and Azure."""

import re
from collections.abc import Iterator
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from export_pipeline.errors import (
    FileArchived,
    FileError,
    FileForbidden,
    FileGone,
    FileReplaced,
    FileUnreachable,
    ListingFailed,
)
from export_pipeline.secrets import scrub
from export_pipeline.source.etag import are_same, clean
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source
from export_pipeline.storage.folders import brief
from export_pipeline.storage.location import Location
from export_pipeline.storage.settings import StoreSettings

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

_LISTED = 1_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
# S3's codes for Glacier and Azure's for the archive tier, also while a restore is in progress.
_ARCHIVED = {"InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}


def by_code(key: str, code: str) -> FileError | None:
    """The error of a file for which a store returned this *code*; None: the status is unambiguous.

    S3 uses one status for an object in Glacier and for missing permissions, and one for a missing object and a missing
    bucket; what these prove about the file differs.
    """
    if code in _ARCHIVED:
        return FileArchived(key, f"it is in an archive tier ({code}) and must be restored before it can be read")
    if code in _NO_BUCKET:
        return FileUnreachable(key, f"the bucket or container does not exist ({code})")
    return None


class BucketSource(Source):
    """What all buckets share: exact reads through obstore.

    Args:
        settings: how to log in. No request is made yet.
        settings: how to log in. Nothing is asked of the network yet.
    """

    def __init__(self, location: Location, settings: StoreSettings) -> None:
        self.url = location.url
        self._location = location
        self._settings = settings
        self._opening = Lock()
        # Set once a file was refused for its etag, was listed with the same one, and could be read without If-Match.
        self._misreads_if_match = False

    def read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        """As :meth:`Source.read_range`: each request sends If-Match, so that bytes of two objects are never mixed.

        A replaced file is given up at the first attempt. So the store's word for that counts only if a new listing
        shows the file with another etag, or no longer shows it.
        """
        try:
            return self._read(file, start, stop, is_pinned=not self._misreads_if_match)
        except (FileGone, FileReplaced) as error:
            self._confirm(file, error)
        # The listing shows the same etag. Weak etags, for one, match no If-Match (RFC 9110, section 13.1.1).
        data = self._read_unpinned(file, start, stop)
        self._misreads_if_match = True
        return data

    def _read_unpinned(self, file: SourceFile, start: int, stop: int) -> bytes:
        try:
            return self._read(file, start, stop, is_pinned=False)
        except FileReplaced as error:
            reason = f"{error.reason}; but a new listing shows the file unchanged: it will be retried"
            raise FileUnreachable(file.key, reason) from None

    def _confirm(self, file: SourceFile, error: FileGone | FileReplaced) -> None:
        """Compare the store's answer about *file* with a new listing.

        Raises:
            FileGone, FileReplaced: the listing confirms it.
            FileUnreachable: the listing shows the object that the store denies, or the new listing failed.
        """
        try:
            there = self._listed_now(file.key)
        except ListingFailed as trouble:
            if isinstance(error, FileGone):
                raise error from None  # retried, unlike a file that was replaced
            raise FileUnreachable(file.key, f"{error.reason}; and a new listing failed: {trouble}") from None
        if there is None:
            raise FileGone(file.key, "the object does not exist") from None
        if there.size_bytes != file.size_bytes or not are_same(there.etag, file.etag):
            reason = f"its etag is now {there.etag}, but {file.etag} was listed"
            raise FileReplaced(file.key, reason if there.etag != file.etag else error.reason) from None
        if isinstance(error, FileGone):
            reason = f"{error.reason}, but a new listing shows the file unchanged: it will be retried"
            raise FileUnreachable(file.key, reason) from None

    def _listed_now(self, key: str) -> SourceFile | None:
        # Some servers fail if a prefix contains control characters.
        prefix = _CONTROL.split(key, maxsplit=1)[0]
        return next((file for file in self.list_all(prefix=prefix, before=key + "\0") if file.key == key), None)

    def _read(self, file: SourceFile, start: int, stop: int, *, is_pinned: bool) -> bytes:
        """One request, with If-Match if *is_pinned*; the response is compared with the listing in any case."""
        from obstore.exceptions import (
            BaseError,
            PermissionDeniedError,
            PreconditionError,
            UnauthenticatedError,
        )

        options: Any = {"if_match": f'"{clean(file.etag)}"'} if file.etag and is_pinned else {}
        if start > 0 or stop < file.size_bytes:
            options["range"] = (start, stop)
        try:
            answer = self._store.get(self._location.prefix + file.key, options=options)
            self._check_identity(file, answer.meta["e_tag"], answer.meta["size"])
            data = answer.bytes().to_bytes()
        except FileNotFoundError as error:
            raise self._by_code(file.key, error) or FileGone(file.key, "the object does not exist") from None
        except PreconditionError:
            raise FileReplaced(file.key, f"its etag is no longer {file.etag}, which was listed") from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._by_code(file.key, error) or FileForbidden(file.key, self._explain(error)) from None
        except (BaseError, OSError) as error:
            raise self._by_code(file.key, error) or FileUnreachable(file.key, self._explain(error)) from None
        self._check_length(file, data, start, stop)
        return data

    def close(self) -> None:
        """Connections are closed with the store, when its last reference is dropped."""
        self.__dict__.pop("_opened", None)

    def _check_identity(self, file: SourceFile, etag: str | None, size_bytes: int) -> None:
        """Compare the response with the listing: some servers do not support If-Match and answer anyway."""
        found = clean(etag)
        if found and file.etag and not are_same(found, file.etag):
            raise FileReplaced(file.key, f"its etag is now {found}, but {file.etag} was listed")
        if size_bytes != file.size_bytes:
            if found and file.etag:
                # The same content has the same length: the response of the store, or of a proxy, is wrong for now. As a
                # replaced file it would be given up at the first attempt.
                raise FileUnreachable(file.key, f"received {size_bytes} bytes, but {file.size_bytes} were listed")
            raise FileReplaced(file.key, f"it has {size_bytes} bytes, but {file.size_bytes} were listed")

    def _check_length(self, file: SourceFile, data: bytes, start: int, stop: int) -> None:
        if len(data) != stop - start:
            raise FileUnreachable(file.key, f"received {len(data)} bytes from {start} on, expected {stop - start}")

    def _by_code(self, key: str, error: BaseException) -> FileError | None:
        """The error by the store's own code, where the status alone would be misread."""
        found = _CODE.search(str(error))
        return by_code(key, found[1] if found else "")

    def _explain(self, error: BaseException) -> str:
        return scrub(brief(error), self._settings.secrets())

    @property
    def _store(self) -> "S3Store | GCSStore | AzureStore":
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> "S3Store | GCSStore | AzureStore":
        from export_pipeline.storage.remote import open_store

        return open_store(self._location, self._settings)


class ObstoreSource(BucketSource):
    """A bucket of Google Cloud Storage or a container of Azure Blob Storage; both list in key order.

    A key with an empty part, ``.`` or ``..`` between slashes, or with control characters, which obstore cannot express,
    makes the listing fail.
    """

    def list_all(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """As :meth:`Source.list_all`."""
        from obstore.exceptions import BaseError

        below = self._location.prefix
        # obstore compares prefixes part by part: it gets the complete folders, and the rest is compared here.
        folder = below + prefix[: prefix.rfind("/") + 1]
        start = below + _as_path(max(after, prefix[:-1]))
        last = ""
        try:
            pages = self._store.list(folder or None, offset=start or None, chunk_size=_LISTED)
            for page in pages:
                for meta in page:
                    key = meta["path"][len(below) :]
                    if before is not None and key >= before:
                        return
                    if key <= after or not key.startswith(prefix):
                        continue
                    if key <= last:
                        raise ListingFailed(f"{self.url} does not list in key order: {key!r} came after {last!r}")
                    last = key
                    yield SourceFile(key, clean(meta["e_tag"]), meta["size"], meta["last_modified"])
        except (BaseError, OSError, ValueError) as error:
            raise ListingFailed(f"{self.url} could not be listed: {self._explain(error)}") from None


def _as_path(key: str) -> str:
    """The part of *key* that obstore can express: a string that does not sort after it."""
    parts = key.split("/")
    for n, part in enumerate(parts):
        if part in {"", ".", ".."} or any(character < " " or character == "\x7f" for character in part):
            return "/".join(parts[:n])
    return key
