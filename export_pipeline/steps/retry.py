"""Retry what is in the quarantine, after the cause was fixed.

Malformed records and refused events become separate files and manifests, so that every promise holds for them as well:
they are read, checked, delivered once, and quarantined again if nothing was fixed. Files that were given up are tried
as if for the first time. What was retried is moved to ``retried/`` in the quarantine and kept there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from export_pipeline.batching.quarantine import FILE, REFUSED, STRETCH, Record, RetriedFiles
from export_pipeline.ledger import deliveries, folding, known, manifests, planning, retries, unreadable
from export_pipeline.ledger.deliveries import owe, waived_for
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.records import Run
from export_pipeline.steps.open import Workspace

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


def retry_quarantined(place: Workspace, names: Iterable[str], *, run: Run) -> Retried:
    """Plan the content of quarantine objects again.

    Args:
        place: the open source, ledger and stores.
        names: of objects, as returned by ``Quarantine.records``.
        run: the run that requests the retry.
    """
    retried = Retried()
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
            _retry_files(place, name, records, retried)
            continue
        whole = [record for record in records if record.is_whole]
        retried.cut_off += sum(1 for record in records if record.kind == STRETCH and not record.is_whole)
        if whole and _plan(place, name, whole, run=run):
            retried.stretches += sum(1 for record in whole if record.kind == STRETCH)
            retried.refused += sum(1 for record in whole if record.kind != STRETCH)
        # Last: after a crash before this, the same manifests are planned again, which changes nothing.
        _archive(place, name, records)
    return retried


def _retry_files(place: Workspace, name: str, records: Sequence[Record], retried: Retried) -> None:
    """Try files again that were given up with one manifest.

    Until that is archived nobody reads the manifest: what a run gives up once more lies under the same name.
    """
    with place.ledger.claims.claim(f"read:{records[0].manifest}", wait_seconds=_READER_SECONDS) as mine:
        if not mine:
            retried.under_way += len(records)
            return
        for record in records:
            with place.ledger.write(durable=True) as tx:
                unreadable.reopen(tx, record.manifest)
                retries.note_file(tx, record.manifest, name, key=record.key, etag=record.etag)
            retried.files.append(record.key)
        _archive(place, name, records)


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
            _archive(place, name, records)
    with place.ledger.write() as tx:
        retries.forget(tx, manifest)


def _archive(place: Workspace, name: str, records: Sequence[Record]) -> None:
    """Archive the records of an object, except malformed records that were too long to be kept whole."""
    if all(record.is_whole or record.kind != STRETCH for record in records):
        place.quarantine.archive(name)
    elif any(record.is_whole for record in records):
        place.quarantine.archive_whole(name)


def _is_final(place: Workspace, record: Record) -> bool:
    """Whether no process will write the record again: its reading was recorded, or its batch accepted.

    A process that dies before that leaves its records behind, and the next one starts again.
    """
    with place.ledger.read() as tx:
        if record.kind == STRETCH:
            return manifests.was_recorded(tx, record.manifest)
        return record.kind == FILE or deliveries.is_settled(tx, record.manifest, record.subscriber, record.batch)


def _is_ours(place: Workspace, manifest_id: str) -> bool:
    with place.ledger.read() as tx:
        return manifests.is_of(tx, manifest_id, place.source.url)


def _plan(place: Workspace, name: str, records: list[Record], *, run: Run) -> bool:
    """Plan a manifest with the bytes of *records*, all of them from the quarantine's object *name*.

    Each malformed record becomes a separate file: the next one must not seem to continue a truncated one.

    Returns:
        Whether they will be retried: not if other manifests keep them as well.
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
    return True


def _arrived(tx: Connection, found: Manifest) -> datetime:
    """When the first file of a manifest arrived: a start that excludes the manifest excludes its records, too."""
    arrived = None if found.files else folding.first_arrival(tx, found.id)
    return arrived or min(file.last_modified for file in found.files)
