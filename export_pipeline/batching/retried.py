"""What was taken out of the quarantine to be driven again, readable like files of the source."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from export_pipeline.batching.quarantine import RETRIES_FOLDER, ObjectStore, Record
from export_pipeline.errors import FileGone, FileReplaced, FileUnreachable, ObjectMissing, StoreError
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source


class RetriedFiles(Source):
    """The folder ``retries/`` of the quarantine."""

    url = RETRIES_FOLDER

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, day: str, records: Sequence[Record], *, arrived: datetime) -> SourceFile:
        """Keep the bytes of *records* as a file to read; the same records are the same file.

        Args:
            day: of their manifest, YYYY-MM-DD.
            records: whole ones.
            arrived: when the first file of their manifest was written.
        """
        data = b"".join(record.data + b"\n" for record in records)
        key = f"{RETRIES_FOLDER}/{day}/{_name(records, data)}.ndjson"
        self._objects.put(key, data)
        return SourceFile(key=key, etag=_etag(data), size_bytes=len(data), last_modified=arrived)

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


def _name(records: Sequence[Record], data: bytes) -> str:
    """Tells equal bytes apart by where they lay: each event counts, also one that was refused twice.

    Not by their manifest. One that takes another's place when files are set apart keeps the same bad stretches anew.
    """
    digest = hashlib.sha256()
    for one in records:
        where = f"{one.key}\0{one.etag}\0{one.subscriber}\0{one.batch}\0{one.offset}\n"
        digest.update(where.encode("utf-8", "surrogatepass"))
    digest.update(data)
    return digest.hexdigest()[:32]


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
