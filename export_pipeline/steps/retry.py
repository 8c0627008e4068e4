"""Drive what lies in the quarantine again, after what was wrong has been mended.

Bad stretches and refused events become files and manifests of their own, so that every promise holds for them as well:
they are read, checked, delivered once, and quarantined again if nothing was mended. Files that were given up are tried
as if for the first time. What was taken is moved to ``retried/`` in the quarantine, where it stays as a record.
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


@dataclass(slots=True)
class Retried:
    """What will be tried again with the next run.

    Attributes:
        files: keys of files that were given up.
        stretches: number of bad stretches.
        refused: number of events that a subscriber had refused.
        cut_off: number of stretches that were too long to be kept whole; they stay in the quarantine.
        of_others: number of objects of manifests that are not this source's in this ledger; they stay as they are.
        under_way: number of records of files that are still being read, or of batches that are still being delivered.
            Whoever does that writes them once more, so they stay as they are.
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
        place: where everything lies.
        names: of objects, as ``Quarantine.records`` gives them.
        run: who asks.
    """
    retried = Retried()
    for name in names:
        records = list(place.quarantine.records_in(name))
        if records and not _is_ours(place, records[0].manifest):
            # Of another deployment, which keeps its own in the same folder: it would look for it in vain.
            retried.of_others += 1
            continue
        if records and not _is_final(place, records[0]):
            retried.under_way += len(records)
            continue
        whole = [record for record in records if record.kind != FILE and record.is_whole]
        for record in records:
            if record.kind == FILE:
                with place.ledger.write(durable=True) as tx:
                    unreadable.reopen(tx, record.manifest)
                    retries.note_file(tx, record.manifest, name, key=record.key, etag=record.etag)
                retried.files.append(record.key)
        retried.cut_off += sum(1 for record in records if record.kind == STRETCH and not record.is_whole)
        if whole and _plan(place, name, whole, run=run):
            retried.stretches += sum(1 for record in whole if record.kind == STRETCH)
            retried.refused += sum(1 for record in whole if record.kind != STRETCH)
        # Last: after a crash before this the same manifests are planned again, that is not at all.
        _archive(place, name, records)
    return retried


def finish_retry(place: Workspace, manifest: Manifest) -> None:
    """Archive what a retry planned as *manifest* and had no time to archive, since its process died.

    Called before the manifest is read for the first time since: what is still wrong is quarantined anew.
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
    """Let the records of an object wait no longer, but for stretches that were too long to be kept whole."""
    if all(record.is_whole or record.kind != STRETCH for record in records):
        place.quarantine.archive(name)
    elif any(record.is_whole for record in records):
        place.quarantine.archive_whole(name)


def _is_final(place: Workspace, record: Record) -> bool:
    """Whether nobody writes the record once more: the reading that it comes from was recorded, the batch accepted.

    A process that dies before that leaves its records behind, and the next one begins anew.
    """
    with place.ledger.read() as tx:
        if record.kind == STRETCH:
            return manifests.was_recorded(tx, record.manifest)
        return record.kind == FILE or deliveries.is_settled(tx, record.manifest, record.subscriber, record.batch)


def _is_ours(place: Workspace, manifest_id: str) -> bool:
    with place.ledger.read() as tx:
        return manifests.is_of(tx, manifest_id, place.source.url)


def _plan(place: Workspace, name: str, records: list[Record], *, run: Run) -> bool:
    """One manifest that holds the bytes of *records*, all of the quarantine's object *name*.

    A bad stretch is a file of its own: where one breaks off, the next must not seem to go on.

    Returns:
        Whether they will be tried again: not so where other manifests keep them as well.
    """
    with place.ledger.read() as tx:
        found = manifests.get(tx, records[0].manifest)
        if found.id != records[0].manifest or found.state.is_replaced:
            # A run died after it set files apart, before it archived these: the manifests of now keep them anew.
            return False
        arrived = _arrived(tx, found)
    refused_by = records[0].subscriber
    # What cannot be read of refused events is still nobody else's.
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
            # Should the start of one move back, this is owed to it like all that it was never owed.
            waived = waived_for(tx, found.id)
            receivers = [number for number, _ in owed_to if number not in waived]
        owe(tx, manifest_id, receivers, day=found.day, first_key=files[0].key, now=run.now)
    return True


def _arrived(tx: Connection, found: Manifest) -> datetime:
    """When the first of a manifest's files did: a start that leaves the manifest out leaves out what lay in it."""
    arrived = None if found.files else folding.first_arrival(tx, found.id)
    return arrived or min(file.last_modified for file in found.files)
