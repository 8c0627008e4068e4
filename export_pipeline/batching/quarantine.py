"""The quarantine, our dead letters: keeps malformed records, refused events and files that were given up.

One object per manifest, ``<day>/<manifest>.ndjson``; for events that a subscriber refused, one per batch,
``<day>/<manifest>.<subscriber>.<batch>.ndjson``; for files without which a manifest cannot be delivered to the
subscribers still waiting for it, ``<day>/<manifest>.unreadable.ndjson``. An object that would become too large
continues in ``….part-1.ndjson``; all of them are one entry, named without ending and part. A repeat writes the same
bytes under the same name. Each line is a record: what it is, its origin, why it is here, and its bytes, in base64
and, if valid UTF-8 and not too long, as text.

What no longer waits is moved below ``retried/``, ``dismissed/`` or ``resolved/``; the record says who did that, when
and why. The ledger counts the records of each state; see :mod:`export_pipeline.ledger.quarantined`.

A malformed message of the source's queue is not such a record, but an object ``notifications/<id>.json``.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from export_pipeline.batching.batch import Batch
from export_pipeline.batching.record import (
    ENDING,
    FILE,
    REFUSED,
    STRETCH,
    Kept,
    ObjectStore,
    Origin,
    Record,
    Summary,
    identity,
    parsed,
    with_life,
    write,
)
from export_pipeline.batching.retried import RETRIES_FOLDER, RetriedFiles
from export_pipeline.errors import ObjectMissing
from export_pipeline.source.file import SourceFile
from export_pipeline.source.framed import BadStretch

# Records are spooled to disk and written in parts of this size: a file full of garbage does not fill the memory.
PART_BYTES = 16 * 1024 * 1024
_IN_MEMORY_BYTES = 1024 * 1024

RETRIED_FOLDER, DISMISSED_FOLDER, RESOLVED_FOLDER = "retried", "dismissed", "resolved"
"""Records that no longer wait."""
MESSAGES_FOLDER = "notifications"
_NOT_WAITING = (RETRIES_FOLDER, RETRIED_FOLDER, DISMISSED_FOLDER, RESOLVED_FOLDER, MESSAGES_FOLDER)
_NO_NAME = re.compile(r"[^A-Za-z0-9-]")


class Quarantine:
    """The quarantine of one deployment.

    Args:
        objects: the store of its objects.
        part_bytes: size after which records continue in another object.
    """

    def __init__(self, objects: ObjectStore, *, part_bytes: int = PART_BYTES) -> None:
        self.objects = objects
        self._part_bytes = part_bytes

    def of_manifest(self, *, manifest_id: str, day: date, is_retry: bool = False) -> "ManifestQuarantine":
        """Collects the malformed records of one manifest while it is read.

        Args:
            is_retry: its files are those of a retry, so that the origin of their bytes is another file.
        """
        stem = f"{day.isoformat()}/{manifest_id}"
        retried = RetriedFiles(self.objects) if is_retry else None
        return ManifestQuarantine(partial(self._put, stem), manifest_id, name=stem, retried=retried)

    def put_refused(
        self,
        *,
        manifest_id: str,
        subscriber: str,
        n: int,
        batch: Batch,
        refused: Mapping[int, str],
        origins: Callable[[int], Origin | None] = lambda index: None,
    ) -> list[Kept]:
        """Keep the events of batch *n* that *subscriber* will never accept: index in the batch → reason.

        Args:
            origins: index in the batch → where the event comes from; None if that is not known.

        Returns:
            What is kept now, by file.
        """
        lines = batch.lines()
        stem = f"{batch.date.isoformat()}/{manifest_id}.{subscriber}.{n}"
        with _spool() as spool:
            summary = Summary(stem)
            for index in sorted(refused):
                origin = origins(index) or Origin("", "")
                write(
                    spool,
                    summary,
                    REFUSED,
                    refused[index],
                    manifest_id,
                    data=lines[index],
                    length=len(lines[index]),
                    offset=index,
                    subscriber=subscriber,
                    batch=batch.id,
                    key=origin.key,
                    etag=origin.etag,
                    event=origin.event,
                    retries=origin.retries,
                )
            self._put(stem, spool)
        return summary.kept

    def refused(self, *, manifest_id: str, day: date, subscriber: str, n: int) -> dict[int, str]:
        """Those events of batch *n* that wait here since *subscriber* refused them: index in the batch → reason."""
        stem = f"{day.isoformat()}/{manifest_id}.{subscriber}.{n}"
        names = [name for name in self.objects.list(day.isoformat()) if _stem(name) == stem]
        return {record.offset: record.reason for name in names for record in self.records_in(name)}

    def put_file(self, *, manifest_id: str, day: date, file: SourceFile, reason: str) -> list[Kept]:
        """Record that *file* was given up. Its bytes stay in the source, where a later retry looks for them again."""
        return self._put_files(f"{day.isoformat()}/{manifest_id}", manifest_id, {file: reason})

    def put_owed(self, *, manifest_id: str, day: date, files: Mapping[SourceFile, str]) -> list[Kept]:
        """Record that what is owed of a manifest was given up, since *files* cannot be read again: file → reason.

        Kept beside its malformed records, which were found when it was read.
        """
        return self._put_files(f"{day.isoformat()}/{manifest_id}.unreadable", manifest_id, files)

    def names_of(self, entry: str, folder: str = "") -> list[str]:
        """The objects of an entry whose records wait; with *folder*, of those that were moved there."""
        under = f"{folder}/" if folder else ""
        return sorted(
            name
            for name in self.objects.list(under + entry.partition("/")[0])
            if entry_of(name.removeprefix(under)) == entry
        )

    def move(self, name: str, folder: str, change: Mapping[str, str], *, moves: Callable[[Record], bool]) -> None:
        """Move records of one object below *folder*: they no longer wait. Repeated after a crash, it moves them once.

        Args:
            change: the entry for their :attr:`Record.life`.
            moves: tells which ones.
        """
        waiting, moved = [], []
        for line in self.objects.get(name).splitlines(keepends=True):
            record = parsed(line)
            if moves(record):
                moved.append((identity(record), with_life(line, [*record.life, change])))
            else:
                waiting.append(line)
        if moved:
            there = f"{folder}/{name}"
            try:
                before = self.objects.get(there).splitlines(keepends=True)
            except ObjectMissing:
                before = []
            ours = {one for one, _ in moved}
            lines = [line for line in before if identity(parsed(line)) not in ours] + [line for _, line in moved]
            self.objects.put(there, b"".join(lines))
        if not waiting:
            self.objects.delete(name)
        elif moved:
            self.objects.put(name, b"".join(waiting))

    def put_message(self, *, message_id: str, body: str, reason: str) -> None:
        """Keep a malformed message of the source's queue, which would otherwise be received again and again."""
        data = json.dumps({"reason": reason, "message_id": message_id, "body": body}, indent=1)
        self.objects.put(f"{MESSAGES_FOLDER}/{_NO_NAME.sub('_', message_id)}.json", data.encode())

    def records(self, prefix: str = "") -> Iterator[tuple[str, Record]]:
        """Every waiting record below the folder *prefix* (a day, or empty: all), with the name of its object."""
        for name in sorted(self.objects.list(prefix)):
            if is_waiting(name):
                yield from ((name, record) for record in self.records_in(name))

    def records_in(self, name: str) -> Iterator[Record]:
        """The records of one object."""
        for line in self.objects.get(name).split(b"\n")[:-1]:
            yield parsed(line)

    def summary(self, entry: str, records: Iterable[Record]) -> list[Kept]:
        """What an entry with these *records* keeps, by file."""
        summary = Summary(entry)
        for one in records:
            summary.add(asdict(replace(one, bytes_base64="", text=None)))
        return summary.kept

    def _put_files(self, stem: str, manifest_id: str, files: Mapping[SourceFile, str]) -> list[Kept]:
        summary = Summary(stem)
        with _spool() as spool:
            for file, reason in files.items():
                where = {"key": file.key, "etag": file.etag}
                write(spool, summary, FILE, reason, manifest_id, data=b"", length=file.size_bytes, **where)
            self._put(stem, spool)
        return summary.kept

    def _put(self, stem: str, spool: IO[bytes]) -> None:
        spool.seek(0)
        for n, data in enumerate(_portions(spool, self._part_bytes)):
            self.objects.put(f"{stem}.part-{n}.ndjson" if n else f"{stem}.ndjson", data)


def is_waiting(name: str) -> bool:
    """Whether an object holds records that wait."""
    return name.endswith(ENDING) and name.partition("/")[0] not in _NOT_WAITING


def entry_of(name: str) -> str:
    """The entry of an object whose records wait: its name without its ending, and without the number of its part."""
    return _stem(name)


def _stem(name: str) -> str:
    return name.removesuffix(ENDING).partition(".part-")[0]


class ManifestQuarantine:
    """The malformed records of one manifest; nothing is kept of a reading that is not closed.

    Args:
        keep: writes the records.
        name: of the entry; empty: there is none.
        retried: the store of the manifest's files, if these are files of a retry; None: they are the source's.

    Attributes:
        records: how many there are.
        size_bytes: of the stretches, as they are in their files.
    """

    def __init__(
        self,
        keep: Callable[[IO[bytes]], None],
        manifest_id: str,
        *,
        name: str = "",
        retried: "RetriedFiles | None" = None,
    ) -> None:
        self.records = 0
        self.size_bytes = 0
        self._keep = keep
        self._manifest_id = manifest_id
        self._retried = retried
        self._summary = Summary(name)
        self._spool = _spool()

    @property
    def kept(self) -> list[Kept]:
        """The content of the entry, by file; nothing if there is no entry, and the records are only counted."""
        return [one for one in self._summary.kept if one.name]

    def add(self, file: SourceFile, stretch: BadStretch) -> None:
        """Take a malformed record of *file*."""
        origin = Origin(file.key, file.etag, stretch.offset)
        if self._retried is not None:
            origin = self._retried.origin_of_byte(file, stretch.offset)
        write(
            self._spool,
            self._summary,
            STRETCH,
            stretch.reason,
            self._manifest_id,
            data=stretch.data,
            length=stretch.length,
            key=origin.key,
            etag=origin.etag,
            offset=origin.offset,
            retries=origin.retries,
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
