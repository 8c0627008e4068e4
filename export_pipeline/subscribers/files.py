"""Write every batch as one object of newline-delimited JSON to an object store or a local folder."""

import errno
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Blocked, ConfigurationError, DeliveryError, ObjectMissing, StoreError, TryLater
from export_pipeline.storage.objects import Objects, checked_name, open_objects
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.store_options import StoreFields

EXTENSIONS = {"none": ".ndjson", "gzip": ".ndjson.gz", "zstd": ".ndjson.zst"}
# Errors of the operating system that are not temporary.
LASTING = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST}
)
PROBE = "_export_pipeline_check"


class Files(StoreFields, Subscriber):
    """Writes each batch as one NDJSON object, named after its day and its id: ``2026/11/23/<batch id>.ndjson``.

    A repeated batch overwrites its own object with the same bytes, so every event is there exactly once. A reader sees
    a complete object or none. In a local folder on the same file system as staging, an uncompressed object is a hard
    link to the staged file.
    """

    url: str = Field(
        description="Where to write: s3://…, gs://…, az://…, file:///… or a path, which may be relative. It must not "
        "be in the source.",
        examples=["s3://acme-lake/events/"],
    )
    path: str = Field(
        default="%Y/%m/%d/",
        description="Prefix of object names, as a strftime pattern for the day of the events.",
    )
    compression: Literal["none", "gzip", "zstd"] = Field(default="none", description="How each object is compressed.")
    durable: bool = Field(
        default=False,
        description="In a local folder: wait until each object is on disk (fsync), so that it survives a power "
        "failure. Other stores always do.",
    )
    folder_options: ClassVar[tuple[str, ...]] = ("url",)
    _objects: Objects | None = PrivateAttr(default=None)

    @field_validator("path")
    @classmethod
    def _check_path(cls, value: str) -> str:
        try:
            checked_name(date(2026, 11, 23).strftime(value) + "id")
        except StoreError as error:
            raise ValueError(str(error)) from None
        return value

    @classmethod
    def name_patterns(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """``url`` → ``path``."""
        return {"url": str(options.get("path", cls.model_fields["path"].default))}

    def deliver(self, batch: Batch) -> None:
        """Write the batch's object.

        Raises:
            TryLater: the store failed.
            Blocked: the URL or the credentials are wrong.
        """
        name = self.name_of(batch)
        try:
            if batch.staged_file and self.compression == "none":
                self._open().put_file(name, batch.data, batch.staged_file)
            else:
                self._open().put(name, compress(batch.data, self.compression))
        except (StoreError, ConfigurationError) as error:
            raise meaning_of_store(error) from None

    def name_of(self, batch: Batch) -> str:
        """The object's name relative to ``url``; always the same for the same batch."""
        return batch.date.strftime(self.path) + batch.id + EXTENSIONS[self.compression]

    def delivered(self, day: date) -> set[str]:
        """Ids of the batches of *day* whose objects exist under the names of :meth:`name_of`.

        Raises:
            StoreError: the store failed.
        """
        begins, ends = day.strftime(self.path), EXTENSIONS[self.compression]
        names = self._open().list(begins.rpartition("/")[0])
        return {name[len(begins) : -len(ends)] for name in names if name.startswith(begins) and name.endswith(ends)}

    def check(self) -> None:
        """Write an empty object and delete it again; credentials that may only write leave it there."""
        try:
            self._open().put(PROBE, b"")
        except (StoreError, ConfigurationError) as error:
            raise meaning_of_store(error) from None
        with suppress(StoreError):
            self._open().delete(PROBE)

    def check_once(self) -> None:
        """Do nothing: writing the first object tests the same."""

    def _open(self) -> Objects:
        if self._objects is None:
            self._objects = open_objects(self.url, self.store_settings(), durable=self.durable)
        return self._objects


def compress(data: bytes, compression: str) -> bytes:
    """Compress *data* by ``none``, ``gzip`` or ``zstd``; always the same bytes (no timestamp in gzip's header)."""
    if compression == "gzip":
        from isal import igzip

        return bytes(igzip.compress(data, mtime=0))
    if compression == "zstd":
        from backports.zstd import CompressionParameter, compress

        return compress(
            data, options={CompressionParameter.compression_level: 3, CompressionParameter.checksum_flag: 1}
        )
    return data


def meaning_of_store(error: StoreError | ConfigurationError) -> DeliveryError:
    """Whether the failure is temporary, according to the error of the store or the system behind *error*."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    behind = error.__context__
    lasting = (
        isinstance(error, ConfigurationError | ObjectMissing)  # when writing, only the bucket can be missing
        or isinstance(behind, PermissionDeniedError | UnauthenticatedError)
        or (isinstance(behind, OSError) and behind.errno in LASTING)
    )
    return Blocked(str(error)) if lasting else TryLater(str(error))
