"""What a retry takes out of the quarantine, as files that are read like those of the source."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from export_pipeline.batching.record import ENDING, REFUSED, ObjectStore, Origin, Record
from export_pipeline.errors import FileGone, FileReplaced, FileUnreachable, ObjectMissing, StoreError
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source

RETRIES_FOLDER = "retries"


class RetriedFiles(Source):
    """The folder ``retries/`` of the quarantine.

    Beside each file is ``….origins``, which says where its bytes come from: an entry for each of its records.
    """

    url = RETRIES_FOLDER

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._origins: tuple[str, list[tuple[int, Origin]]] = ("", [])

    def put(self, day: str, records: Sequence[Record], *, arrived: datetime) -> SourceFile:
        """Keep the bytes of *records* as a file to read; the same records always give the same file.

        Args:
            day: of their manifest, YYYY-MM-DD.
            records: complete ones.
            arrived: when the first file of their manifest was written.
        """
        data = b"".join(record.data + b"\n" for record in records)
        key = self.key(day, records)
        origins, at = [], 0
        for record in records:
            origins.append([at, asdict(replace(record.origin, retries=record.retries + 1))])
            at += len(record.data) + 1
        self._objects.put(_origins_of(key), json.dumps(origins, separators=(",", ":")).encode())
        self._objects.put(key, data)
        return SourceFile(key=key, etag=_etag(data), size_bytes=len(data), last_modified=arrived)

    @staticmethod
    def key(day: str, records: Sequence[Record]) -> str:
        """Where :meth:`put` puts them."""
        data = b"".join(record.data + b"\n" for record in records)
        return f"{RETRIES_FOLDER}/{day}/{_name(records, data)}{ENDING}"

    def origin_of_byte(self, file: SourceFile, offset: int) -> Origin:
        """Where the byte at *offset* of a file comes from; without its file, if an earlier version retried it."""
        before = [(at, origin) for at, origin in self._origins_in(file.key) if at <= offset]
        if not before:
            return Origin(file.key, file.etag, offset)
        at, origin = before[-1]
        return replace(origin, offset=origin.offset + offset - at)

    def origin_of_event(self, key: str, number: int, *, events: int) -> Origin | None:
        """Where event *number* of this many *events* in the file *key* comes from; None if that is not known."""
        origins = [origin for _, origin in self._origins_in(key)]
        if len(origins) == events:
            return origins[number]
        if len({(origin.key, origin.etag) for origin in origins}) == 1:
            return replace(origins[0], event=None)
        return None

    def _origins_in(self, key: str) -> list[tuple[int, Origin]]:
        if self._origins[0] != key:
            try:
                rows = json.loads(self._objects.get(_origins_of(key)))
            except ObjectMissing:
                rows = []
            self._origins = key, [(at, Origin(**origin)) for at, origin in rows]
        return self._origins[1]

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
            raise FileReplaced(file.key, "its bytes are not those that were written here")
        return data[start:stop]

    def close(self) -> None:
        """Nothing is open."""


def _name(records: Sequence[Record], data: bytes) -> str:
    """Distinguishes equal bytes by where they came from: each event counts, also one that was refused twice.

    Not by their manifest: one that replaces another when files are isolated keeps the same malformed records again.
    """
    digest = hashlib.sha256()
    for one in records:
        # One that comes back is retried as another file; what earlier versions retried keeps its name.
        again = f"\0{one.retries}" if one.retries else ""
        # The batch tells refused events apart, whether their file is known or not.
        file = ("", "") if one.kind == REFUSED else (one.key, one.etag)
        where = f"{file[0]}\0{file[1]}\0{one.subscriber}\0{one.batch}\0{one.offset}{again}\n"
        digest.update(where.encode("utf-8", "surrogatepass"))
    digest.update(data)
    return digest.hexdigest()[:32]


def _origins_of(key: str) -> str:
    return f"{key.removesuffix(ENDING)}.origins"


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
