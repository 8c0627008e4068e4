"""The quarantine, our dead letters: keeps malformed records, refused events and files that were given up.

One object per manifest, ``<day>/<manifest>.ndjson``; for events that a subscriber refused, one per batch,
``<day>/<manifest>.<subscriber>.<batch>.ndjson``; for files without which a manifest cannot be delivered to the
subscribers still waiting for it, ``<day>/<manifest>.unreadable.ndjson``. An object that would become too large
continues in ``….part-1.ndjson``. A repeat writes the same bytes under the same name. Each line is a record: what it is,
its origin, why it is here, and its bytes, in base64 and, if valid UTF-8 and not too long, as text.

A malformed message of the source's queue is not such a record, but an object ``notifications/<id>.json``.

``RetriedFiles`` is where a retry puts malformed records and refused events, to be read like files of the source.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Protocol, cast

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import FileGone, FileReplaced, FileUnreachable, ObjectMissing, StoreError
from export_pipeline.source.file import SourceFile
from export_pipeline.source.framed import BadStretch
from export_pipeline.source.store import Source

# Records are spooled to disk and written in parts of this size: a file full of garbage does not fill the memory.
PART_BYTES = 16 * 1024 * 1024
TEXT_BYTES = 64 * 1024
_IN_MEMORY_BYTES = 1024 * 1024
_BASE64_STEP_BYTES = 3 * 64 * 1024  # a multiple of three, so that the steps concatenate to one base64 text

STRETCH, REFUSED, FILE = "stretch", "refused", "file"

# The first holds retried events, as plain events; the second holds archived records: retried, or read again.
RETRIES_FOLDER, RETRIED_FOLDER = "retries", "retried"
MESSAGES_FOLDER = "notifications"
_NO_NAME = re.compile(r"[^A-Za-z0-9-]")


class ObjectStore(Protocol):
    """Complete named objects. A name is a relative path with slashes."""

    def put(self, name: str, data: bytes) -> None:
        """Write *data* under *name*, replacing an older object in one step."""

    def get(self, name: str) -> bytes:
        """The bytes under *name*."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """Names below the folder *prefix*."""

    def delete(self, name: str) -> None:
        """Delete *name*; no error if it does not exist."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing in the quarantine.

    Attributes:
        kind: ``stretch`` (bytes of a file that are not an event), ``refused`` (an event that a subscriber will never
            accept) or ``file`` (a whole file that could not be read).
        reason: in words.
        manifest: the manifest's id.
        key, etag: of the file; empty for a refused event, whose batch may come from several files.
        offset: of the first byte in the decompressed file, or the event's index in its batch.
        length: number of bytes; for ``file``, as stored.
        subscriber: which one refused it; empty otherwise.
        batch: id of the refused event's batch; empty otherwise.
        bytes_base64: the bytes, or the first of them if there are more than are kept; empty for a file.
        text: the same as text; None if it is not valid UTF-8, or longer than ``TEXT_BYTES``.
    """

    kind: str
    reason: str
    manifest: str
    key: str
    etag: str
    offset: int
    length: int
    subscriber: str
    batch: str
    bytes_base64: str
    text: str | None

    @property
    def data(self) -> bytes:
        """The bytes that were kept."""
        return base64.b64decode(self.bytes_base64)

    @property
    def is_whole(self) -> bool:
        """Whether all bytes were kept, so that they can be retried."""
        return self.kind != FILE and (self.kind == REFUSED or len(self.data) == self.length)


class Quarantine:
    """The quarantine of one deployment.

    Args:
        objects: the store of its objects.
        part_bytes: size after which records continue in another object.
    """

    def __init__(self, objects: ObjectStore, *, part_bytes: int = PART_BYTES) -> None:
        self.objects = objects
        self._part_bytes = part_bytes

    def of_manifest(self, *, manifest_id: str, day: date) -> "ManifestQuarantine":
        """Collects the malformed records of one manifest while it is read."""
        return ManifestQuarantine(partial(self._put, f"{day.isoformat()}/{manifest_id}"), manifest_id)

    def put_refused(
        self, *, manifest_id: str, subscriber: str, n: int, batch: Batch, refused: Mapping[int, str]
    ) -> None:
        """Keep the events of batch *n* that *subscriber* will never accept: index in the batch → reason."""
        lines = batch.lines()
        with _spool() as spool:
            for index in sorted(refused):
                _write(
                    spool,
                    REFUSED,
                    refused[index],
                    manifest_id,
                    data=lines[index],
                    length=len(lines[index]),
                    offset=index,
                    subscriber=subscriber,
                    batch=batch.id,
                )
            self._put(f"{batch.date.isoformat()}/{manifest_id}.{subscriber}.{n}", spool)

    def refused(self, *, manifest_id: str, day: date, subscriber: str, n: int) -> dict[int, str]:
        """Those events of batch *n* that wait here since *subscriber* refused them: index in the batch → reason."""
        stem = f"{day.isoformat()}/{manifest_id}.{subscriber}.{n}"
        names = [name for name in self.objects.list(day.isoformat()) if _stem(name) == stem]
        return {record.offset: record.reason for name in names for record in self.records_in(name)}

    def put_file(self, *, manifest_id: str, day: date, file: SourceFile, reason: str) -> None:
        """Record that *file* was given up. Its bytes stay in the source, where a later retry looks for them again."""
        self._put_files(f"{day.isoformat()}/{manifest_id}", manifest_id, {file: reason})

    def put_owed(self, *, manifest_id: str, day: date, files: Mapping[SourceFile, str]) -> None:
        """Record that what is owed of a manifest was given up, since *files* cannot be read again: file → reason.

        Kept beside its malformed records, which were found when it was read.
        """
        self._put_files(f"{day.isoformat()}/{manifest_id}.unreadable", manifest_id, files)

    def archive(self, name: str) -> None:
        """Move one object to ``RETRIED_FOLDER``: its records no longer wait."""
        self.objects.put(f"{RETRIED_FOLDER}/{name}", self.objects.get(name))
        self.objects.delete(name)

    def archive_whole(self, name: str) -> None:
        """Archive one object, except for stretches that were too long to be kept whole: these keep waiting."""
        lines = self.objects.get(name).splitlines(keepends=True)
        self.objects.put(f"{RETRIED_FOLDER}/{name}", b"".join(lines))
        self.objects.put(name, b"".join(line for line in lines if not Record(**json.loads(line)).is_whole))

    def archive_stretches(self, manifest_id: str, day: date) -> None:
        """Archive the malformed records of a manifest that others have replaced: those keep the records again."""
        self._archive(day, {f"{day.isoformat()}/{manifest_id}"})

    def archive_refused(self, *, manifest_id: str, day: date, subscriber: str, batches: Iterable[int]) -> None:
        """Archive the events of *batches* that *subscriber* refused, since it has accepted all of them by now."""
        self._archive(day, {f"{day.isoformat()}/{manifest_id}.{subscriber}.{n}" for n in batches})

    def put_message(self, *, message_id: str, body: str, reason: str) -> None:
        """Keep a malformed message of the source's queue, which would otherwise be received again and again."""
        data = json.dumps({"reason": reason, "message_id": message_id, "body": body}, indent=1)
        self.objects.put(f"{MESSAGES_FOLDER}/{_NO_NAME.sub('_', message_id)}.json", data.encode())

    def records(self, prefix: str = "") -> Iterator[tuple[str, Record]]:
        """Every waiting record below the folder *prefix* (a day, or empty: all), with the name of its object."""
        for name in sorted(self.objects.list(prefix)):
            if name.endswith(".ndjson") and name.partition("/")[0] not in (RETRIES_FOLDER, RETRIED_FOLDER):
                yield from ((name, record) for record in self.records_in(name))

    def records_in(self, name: str) -> Iterator[Record]:
        """The records of one object."""
        for line in self.objects.get(name).split(b"\n")[:-1]:
            yield Record(**json.loads(line))

    def _archive(self, day: date, stems: set[str]) -> None:
        for name in list(self.objects.list(day.isoformat())):
            if _stem(name) in stems:
                self.archive(name)

    def _put_files(self, stem: str, manifest_id: str, files: Mapping[SourceFile, str]) -> None:
        with _spool() as spool:
            for file, reason in files.items():
                _write(spool, FILE, reason, manifest_id, data=b"", length=file.size_bytes, key=file.key, etag=file.etag)
            self._put(stem, spool)

    def _put(self, stem: str, spool: IO[bytes]) -> None:
        spool.seek(0)
        for n, data in enumerate(_portions(spool, self._part_bytes)):
            self.objects.put(f"{stem}.part-{n}.ndjson" if n else f"{stem}.ndjson", data)


def _stem(name: str) -> str:
    """The name of an object without its ending, and without the number of its part."""
    return name.removesuffix(".ndjson").partition(".part-")[0]


class ManifestQuarantine:
    """The malformed records of one manifest; nothing is kept of a reading that is not closed.

    Attributes:
        records: how many there are.
        size_bytes: of the stretches, as they are in their files.
    """

    def __init__(self, keep: Callable[[IO[bytes]], None], manifest_id: str) -> None:
        self.records = 0
        self.size_bytes = 0
        self._keep = keep
        self._manifest_id = manifest_id
        self._spool = _spool()

    def add(self, file: SourceFile, stretch: BadStretch) -> None:
        """Take a malformed record of *file*."""
        _write(
            self._spool,
            STRETCH,
            stretch.reason,
            self._manifest_id,
            data=stretch.data,
            length=stretch.length,
            key=file.key,
            etag=file.etag,
            offset=stretch.offset,
        )
        self.records += 1
        self.size_bytes += stretch.length

    def close(self) -> None:
        """Keep them.

        Raises:
            StoreError: they could not be written.
        """
        with self._spool:
            self._keep(self._spool)

    def discard(self) -> None:
        """Discard them: the manifest is read again, or never."""
        self._spool.close()


def _spool() -> IO[bytes]:
    return cast("IO[bytes]", SpooledTemporaryFile(_IN_MEMORY_BYTES))


def _write(
    spool: IO[bytes], kind: str, reason: str, manifest: str, *, data: bytes, length: int, **where: str | int
) -> None:
    """Append the line of one :class:`Record`. Its bytes may be many, so they are encoded step by step."""
    fields: dict[str, Any] = {"kind": kind, "reason": reason, "manifest": manifest}
    fields |= {"key": "", "etag": "", "offset": 0, "length": length, "subscriber": "", "batch": "", **where}
    fields |= {"text": _text(data), "bytes_base64": ""}
    # A lone surrogate, which a key may contain but UTF-8 may not, becomes its JSON escape.
    line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    spool.write(line.removesuffix(b'"}'))
    for at in range(0, len(data), _BASE64_STEP_BYTES):
        spool.write(base64.b64encode(data[at : at + _BASE64_STEP_BYTES]))
    spool.write(b'"}\n')


def _text(data: bytes) -> str | None:
    try:
        return data.decode() if len(data) <= TEXT_BYTES else None
    except UnicodeDecodeError:
        return None


def _portions(spool: IO[bytes], part_bytes: int) -> Iterator[bytes]:
    """Complete lines, together no longer than *part_bytes*; a longer line alone."""
    lines: list[bytes] = []
    size = 0
    for line in spool:
        if lines and size + len(line) > part_bytes:
            yield b"".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"".join(lines)


class RetriedFiles(Source):
    """The folder ``retries/`` of the quarantine."""

    url = RETRIES_FOLDER

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, day: str, records: Sequence[Record], *, arrived: datetime) -> SourceFile:
        """Keep the bytes of *records* as a file to read; the same records always give the same file.

        Args:
            day: of their manifest, YYYY-MM-DD.
            records: complete ones.
            arrived: when the first file of their manifest was written.
        """
        data = b"".join(record.data + b"\n" for record in records)
        key = self.key(day, records)
        self._objects.put(key, data)
        return SourceFile(key=key, etag=_etag(data), size_bytes=len(data), last_modified=arrived)

    @staticmethod
    def key(day: str, records: Sequence[Record]) -> str:
        """Where :meth:`put` puts them."""
        data = b"".join(record.data + b"\n" for record in records)
        return f"{RETRIES_FOLDER}/{day}/{_name(records, data)}.ndjson"

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
        where = f"{one.key}\0{one.etag}\0{one.subscriber}\0{one.batch}\0{one.offset}\n"
        digest.update(where.encode("utf-8", "surrogatepass"))
    digest.update(data)
    return digest.hexdigest()[:32]


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
