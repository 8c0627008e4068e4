"""Retry what is in the quarantine, after the cause was fixed.

Malformed records and refused events become separate files and manifests, so that every promise holds for them as well:
they are read, checked, delivered once, and quarantined again if nothing was fixed. Files that were given up are tried
as if for the first time. What was retried is moved to ``retried/`` in the quarantine and kept there. What returns says
where it came from in the source, and how often it was retried.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from export_pipeline.batching.quarantine import RETRIED_FOLDER, entry_of
from export_pipeline.batching.record import FILE, REFUSED, STRETCH, Record
from export_pipeline.batching.retried import RetriedFiles
from export_pipeline.errors import ObjectMissing
from export_pipeline.ledger import (
    deliveries,
    folding,
    known,
    manifests,
    planning,
    quarantined,
    retries,
    sources,
    unreadable,
)
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.deliveries import owe, waived_for
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.quarantined import RETRIED, Change
from export_pipeline.ledger.records import Run
from export_pipeline.quantities import counted
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.quarantine import is_final

_RETRY = "retry by "
_READER_SECONDS = 60


@dataclass(slots=True)
class Retried:
    """What the next run will retry.

    Attributes:
        files: keys of files that were given up.
        stretches: number of malformed records.
        refused: number of events that a subscriber refused.
        cut_off: number of malformed records that were too long to be kept whole; they stay in the quarantine.
        of_others: number of objects whose manifests this ledger does not know for this source; they stay as they are.
        under_way: number of records of files that are still being read, or of batches that are still being delivered.
            The process that does so writes them again, so they stay as they are.
    """

    files: list[str] = field(default_factory=list)
    stretches: int = 0
    refused: int = 0
    cut_off: int = 0
    of_others: int = 0
    under_way: int = 0

    def sentences(self) -> list[str]:
        """The result in words."""
        told = [
            counted(number, one, many)
            for number, one, many in (
                (self.stretches, "malformed record", "malformed records"),
                (self.refused, "refused event", "refused events"),
                (len(self.files), "file", "files"),
            )
            if number
        ]
        found = ["nothing to retry"]
        if told:
            found = [f"the next run retries {', '.join(told)}; start it now: export-pipeline run"]
        if self.of_others:
            others = counted(self.of_others, "entry", "entries")
            found.append(f"skipped {others} of another deployment (another ledger or source)")
        if self.under_way:
            found.append(
                f"{counted(self.under_way, 'entry', 'entries')} of files or batches that no run has finished stay as "
                "they are; once one has, retry what is left"
            )
        if self.cut_off:
            found.append(
                f"skipped {counted(self.cut_off, 'malformed record')} that exceeded the size limit and were kept "
                "truncated"
            )
        return found


def retried_by(name: str) -> Run:
    """A retry that *name*, a user or a run, requests."""
    return Run(f"{_RETRY}{name}"[:64], utc_now())


def retry_quarantined(place: Workspace, names: Iterable[str], *, run: Run) -> Retried:
    """Plan the content of quarantine objects again.

    Args:
        place: the open source, ledger and stores.
        names: of objects, as returned by ``Quarantine.records``.
        run: the run that requests the retry.
    """
    retried, by = Retried(), run.id.removeprefix(_RETRY)
    for name in names:
        records = list(place.quarantine.records_in(name))
        if records and not _is_ours(place, records[0].manifest):
            # Belongs to another deployment that uses the same folder, and would miss it.
            retried.of_others += 1
            continue
        if records and not _is_final(place, records[0]):
            retried.under_way += len(records)
            continue
        if records and records[0].kind == FILE:
            _retry_files(place, name, records, retried, by=by)
            continue
        whole = [record for record in records if record.is_whole]
        retried.cut_off += sum(1 for record in records if record.kind == STRETCH and not record.is_whole)
        if whole and _plan(place, name, whole, run=run, by=by):
            retried.stretches += sum(1 for record in whole if record.kind == STRETCH)
            retried.refused += sum(1 for record in whole if record.kind != STRETCH)
        # Last: after a crash before this, the same manifests are planned again, which changes nothing.
        _archive(place, name, records, by=by)
    return retried


def _retry_files(place: Workspace, name: str, records: Sequence[Record], retried: Retried, *, by: str) -> None:
    """Retry files that were given up with one manifest.

    Until that is archived no one reads the manifest: what a run gives up again is under the same name.
    """
    with place.ledger.claims.claim(f"read:{records[0].manifest}", wait_seconds=_READER_SECONDS) as mine:
        if not mine:
            retried.under_way += len(records)
            return
        for record in records:
            with place.ledger.write(durable=True) as tx:
                source_id = manifests.get(tx, record.manifest).source_id
                if not quarantined.waits(tx, source_id, entry_of(name), [record.key]):
                    continue
                unreadable.reopen(tx, record.manifest)
                retries.note_file(tx, record.manifest, name, key=record.key, etag=record.etag)
                _move(tx, place, source_id, name, [record], by=by)
            retried.files.append(record.key)
        _archive(place, name, records, by=by)


def finish_retry(place: Workspace, manifest: Manifest) -> None:
    """Archive what a retry planned as *manifest* but did not archive, because its process died.

    Called before the manifest is read for the first time since: what is still malformed is quarantined again.
    """
    with place.ledger.read() as tx:
        names = retries.of_manifest(tx, manifest)
    if not names:
        return
    waiting = set(place.quarantine.objects.list(manifest.day.isoformat()))
    for name in names & waiting:
        records = list(place.quarantine.records_in(name))
        if records[0].kind != REFUSED or RetriedFiles.key(manifest.day.isoformat(), records) == manifest.files[0].key:
            _archive(place, name, records, by="a retry that had not ended")
    with place.ledger.write() as tx:
        retries.forget(tx, manifest)


def _archive(place: Workspace, name: str, records: Sequence[Record], *, by: str) -> None:
    """Archive the records of an object, except malformed records that were too long to be kept whole."""
    moved = [record for record in records if record.is_whole or record.kind != STRETCH]
    if not moved:
        return
    with place.ledger.write() as tx:
        source_id = manifests.get(tx, records[0].manifest).source_id
        to = _move(tx, place, source_id, name, moved, by=by)
        rows = quarantined.entries(tx, source_id, names=[entry_of(name)])
    # What someone dismissed just before goes where that belongs.
    others = {one.key for one in rows} - {one.key for one in rows if one.state == RETRIED}
    with suppress(ObjectMissing):
        place.quarantine.move(
            name,
            RETRIED_FOLDER,
            to.life,
            moves=lambda one: (one.is_whole or one.kind != STRETCH) and one.key not in others,
        )


def _move(tx: Connection, place: Workspace, source_id: int, name: str, records: Sequence[Record], *, by: str) -> Change:
    """Record that *records* no longer wait: in the transaction that plans them, so that no one dismisses them after."""
    to = Change(RETRIED, by, "to be read again by the run that followed", utc_now())
    quarantined.move(tx, source_id, place.quarantine.summary(entry_of(name), records), to)
    return to


def _is_final(place: Workspace, record: Record) -> bool:
    with place.ledger.read() as tx:
        return is_final(tx, record)


def _is_ours(place: Workspace, manifest_id: str) -> bool:
    with place.ledger.read() as tx:
        return manifests.source_of(tx, manifest_id) == sources.source_id(tx, place.source.url)


def _plan(place: Workspace, name: str, records: list[Record], *, run: Run, by: str) -> bool:
    """Plan a manifest with the bytes of *records*, all of them from the quarantine's object *name*.

    Each malformed record becomes a separate file: the next one must not seem to continue a truncated one.

    Returns:
        Whether they will be retried: not if other manifests keep them as well, or someone has dismissed them.
    """
    with place.ledger.read() as tx:
        found = manifests.get(tx, records[0].manifest)
        if found.id != records[0].manifest or found.state.is_replaced:
            # A run died after it isolated files and before it archived these: the new manifests keep them again.
            return False
        arrived = _arrived(tx, found)
    refused_by = records[0].subscriber
    # Refused events that cannot be parsed still belong only to the subscriber that refused them.
    is_refused = bool(refused_by) or found.is_refused
    retried = RetriedFiles(place.quarantine.objects)
    parts = [[record] for record in records] if records[0].kind == STRETCH else [records]
    put = [retried.put(found.day.isoformat(), part, arrived=arrived) for part in parts]
    with place.ledger.write(durable=True) as tx:
        if not quarantined.waits(tx, found.source_id, entry_of(name), {record.key for record in records}):
            return False
        seen = known.etags_of(tx, found.source_id, [file.key for file in put])
        files = sorted((file for file in put if file.key not in seen), key=lambda file: file.key)
        if not files:
            return True
        manifest_id = manifests.add_retry(tx, found, files, is_refused=is_refused, url=place.source.url, run=run)
        planning.add_files(tx, manifest_id, files, source_id=found.source_id, day=found.day, now=run.now, note=name)
        owed_to = deliveries.subscribers_of(tx, found.id)
        if is_refused:
            receivers = [number for number, name in owed_to if refused_by in ("", name)]
        else:
            # If a subscriber's start moves back, this becomes owed to it like everything it was never owed.
            waived = waived_for(tx, found.id)
            receivers = [number for number, _ in owed_to if number not in waived]
        owe(tx, manifest_id, receivers, day=found.day, first_key=files[0].key, now=run.now)
        _move(tx, place, found.source_id, name, records, by=by)
    return True


def _arrived(tx: Connection, found: Manifest) -> datetime:
    """When the first file of a manifest arrived: a start that excludes the manifest excludes its records, too."""
    arrived = None if found.files else folding.first_arrival(tx, found.id)
    return arrived or min(file.last_modified for file in found.files)
