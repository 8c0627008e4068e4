"""What was taken out of the quarantine to be driven again, readable like files of the source."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timezone

from export_pipeline.batching.quarantine import RETRIES_FOLDER, ObjectStore
from export_pipeline.errors import FileGone, FileReplaced, FileUnreachable, ObjectMissing, StoreError
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source


class RetriedFiles(Source):
    """The folder ``retries/`` of the quarantine."""

    url = RETRIES_FOLDER

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, day: str, data: bytes) -> SourceFile:
        """Keep *data* as a file to read; the same bytes are the same file."""
        etag = _etag(data)
        key = f"{RETRIES_FOLDER}/{day}/{etag}.ndjson"
        self._objects.put(key, data)
        return SourceFile(key=key, etag=etag, size_bytes=len(data), last_modified=datetime.now(timezone.utc))

    def list_files(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """Nothing: the ledger knows every file that was put here."""
        return iter(())

    def read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        """See :class:`Source`."""
        try:
            data = self._objects.get(file.key)
        except ObjectMissing as error:
            raise FileGone(file.key, str(error)) from None
        except StoreError as error:
            raise FileUnreachable(file.key, str(error)) from None
        if _etag(data) != file.etag:
            raise FileReplaced(file.key, "its bytes are not those that were put here")
        return data[start:stop]

    def close(self) -> None:
        """Nothing is open."""


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
