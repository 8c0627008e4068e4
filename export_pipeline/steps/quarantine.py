"""What happens to quarantined records, in the ledger and in the objects that hold them.

The ledger says which records wait; the objects follow. A process that dies in between leaves objects whose records the
ledger no longer counts as waiting: the next retry or dismissal moves them.
"""

import getpass
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from functools import partial

from sqlalchemy import Connection

from export_pipeline.batching.quarantine import (
    DISMISSED_FOLDER,
    RESOLVED_FOLDER,
    RETRIED_FOLDER,
    Quarantine,
    entry_of,
    is_waiting,
)
from export_pipeline.batching.record import FILE, REFUSED, STRETCH, Kept, Record
from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import deliveries, manifests, overwrites, quarantined, sources
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.quarantined import DISMISSED, KEPT, RESOLVED, RETRIED, Change, Entry
from export_pipeline.steps.open import Workspace

FOLDERS = {RETRIED: RETRIED_FOLDER, DISMISSED: DISMISSED_FOLDER, RESOLVED: RESOLVED_FOLDER}
_FROM_EARLIER = "an earlier version"
_NAMES_A_QUERY = 500


def change(place: Workspace, source_id: int, moved: Sequence[Kept | Entry], to: Change) -> None:
    """Let all waiting records of some files of some entries wait no longer."""
    with place.ledger.write(durable=True) as tx:
        quarantined.move(tx, source_id, moved, to)
    move_objects(place, moved, to)


def move_objects(place: Workspace, moved: Iterable[Kept | Entry], to: Change) -> None:
    """Move records that no longer wait to where those of their state are."""
    keys: dict[str, set[str]] = {}
    for one in moved:
        keys.setdefault(one.name, set()).add(one.key)
    for entry, some in keys.items():
        for name in place.quarantine.names_of(entry):
            place.quarantine.move(name, FOLDERS[to.to], to.life, moves=partial(_is_among, keys=some))


def _is_among(record: Record, *, keys: set[str]) -> bool:
    return record.key in keys


def kept_of_older(tx: Connection, manifest: Manifest, *, by_lines: bool) -> list[Entry]:
    """What is kept of older files in whose place those of *manifest*, just read, are now.

    Args:
        by_lines: lines that are in both are not delivered again, so what a subscriber refused of the older goes on
            waiting.
    """
    if not manifest.is_of_source:
        return []
    found = quarantined.of_older_files(tx, manifest.source_id, {file.key: file.etag for file in manifest.files})
    return [one for one in found if not (by_lines and one.kind == REFUSED)]


def keep(
    tx: Connection, manifest: Manifest, kept: Sequence[Kept], to: Change, *, run_id: str, by_lines: bool
) -> list[Kept]:
    """Record what some entries of *manifest* keep now.

    Args:
        to: :func:`replaced_by_newer`.
        by_lines: as for :func:`kept_of_older`.

    Returns:
        Those of files of which a newer version was read before, such as by the retry of an old record: they do not
        wait, and their objects are still to be moved.
    """
    source_id = manifest.source_id
    quarantined.keep(tx, source_id, kept, day=manifest.day, run_id=run_id, now=utc_now())
    replaced = [
        one
        for one in kept
        if one.key
        and not (by_lines and one.kind == REFUSED)
        and overwrites.is_replaced(tx, source_id, one.key, one.etag)
    ]
    quarantined.move(tx, source_id, replaced, to)
    return replaced


def replaced_by_newer(run_id: str) -> Change:
    """Why it waits no longer."""
    return Change(RESOLVED, f"run {run_id}", "a newer file with this key was read", utc_now())


def resolve_accepted(
    place: Workspace, manifest: Manifest, subscriber: str, batches: Iterable[int], *, run_id: str
) -> None:
    """Let the events of *batches* that *subscriber* had refused wait no longer: it has accepted all of them by now."""
    stem = f"{manifest.day.isoformat()}/{manifest.id}.{subscriber}"
    entries = [f"{stem}.{n}" for n in batches]
    to = Change(RESOLVED, f"run {run_id}", f"{subscriber} accepted them when they were delivered again", utc_now())
    with place.ledger.write() as tx:
        for at in range(0, len(entries), _NAMES_A_QUERY):
            some = entries[at : at + _NAMES_A_QUERY]
            found = quarantined.entries(tx, manifest.source_id, states=[KEPT], names=some)
            quarantined.move(tx, manifest.source_id, found, to)
    # Also what an earlier version wrote, of which the ledger has no entry.
    objects = [name for name in place.quarantine.objects.list(manifest.day.isoformat()) if entry_of(name) in entries]
    for name in objects:
        place.quarantine.move(name, RESOLVED_FOLDER, to.life, moves=lambda record: True)


def forget_replaced(place: Workspace, manifest: Manifest, *, run_id: str) -> None:
    """Archive the malformed records of a manifest that others replace: those keep the same stretches again."""
    entry = f"{manifest.day.isoformat()}/{manifest.id}"
    to = Change(RETRIED, f"run {run_id}", "its manifest was divided, and others keep the same records", utc_now())
    with place.ledger.write() as tx:
        quarantined.forget(tx, manifest.source_id, [entry])
    for name in place.quarantine.names_of(entry):
        place.quarantine.move(name, RETRIED_FOLDER, to.life, moves=lambda record: True)


def waiting_names(
    place: Workspace, names: Collection[str] = (), *, day: str | None = None, everything: bool = False
) -> list[str]:
    """The objects of entries that wait, after :func:`adopt`.

    Args:
        names: of entries, or of their objects.
        day: all of this day, YYYY-MM-DD.
        everything: all of them.

    Raises:
        ConfigurationError: not exactly one of the three is given, or an entry does not wait.
    """
    if sum(map(bool, (names, day, everything))) != 1:
        raise ConfigurationError("allowed: exactly one of IDs, --day DATE and --all")
    in_progress = adopt(place, parsed_day(day))
    with place.ledger.read() as tx:
        source_id = sources.source_id(tx, place.source.url)
        kept = [] if source_id is None else quarantined.entries(tx, source_id, states=[KEPT], day=parsed_day(day))
    waiting = dict.fromkeys([*(one.name for one in kept), *in_progress])
    wanted = [entry_of(name) for name in names] or list(waiting)
    for entry in wanted:
        if entry not in waiting:
            raise ConfigurationError(
                f"{entry} is not waiting in the quarantine of this deployment; `export-pipeline quarantine list` shows "
                "what is"
            )
    objects = {entry: place.quarantine.names_of(entry) for entry in dict.fromkeys(wanted)}
    return [name for some in objects.values() for name in some]


def parsed_day(day: str | None) -> date | None:
    """The date of an option ``--day``.

    Raises:
        ConfigurationError: it is not a date.
    """
    try:
        return None if day is None else date.fromisoformat(day)
    except ValueError:
        raise ConfigurationError(f"--day: found {day!r}; allowed: a date, YYYY-MM-DD") from None


def dismiss(place: Workspace, names: Iterable[str], *, by: str, why: str) -> int:
    """Let the records of some objects wait no longer; returns how many.

    Args:
        by: who decides that.
        why: shown with them.
    """
    with place.ledger.read() as tx:
        source_id = sources.source_id(tx, place.source.url)
    if source_id is None:
        return 0
    to = Change(DISMISSED, by, why, utc_now())
    entries = dict.fromkeys(entry_of(name) for name in names)
    with place.ledger.write(durable=True) as tx:
        found = quarantined.entries(tx, source_id, states=[KEPT], names=list(entries))
        quarantined.move(tx, source_id, found, to)
    move_objects(place, found, to)
    return sum(one.records for one in found)


def this_person() -> str:
    """The name under which someone is logged in, for the record of a dismissal."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def unrecorded(
    quarantine: Quarantine, tx: Connection, source_id: int, day: str | None = None
) -> dict[str, list[Record]]:
    """Entries of this source's manifests that the ledger does not know, since an earlier version wrote them.

    Nothing is changed. What other deployments keep in the same folder is left out.
    """
    recorded = quarantined.known_names(tx, source_id)
    found: dict[str, list[Record]] = {}
    for name in sorted(quarantine.objects.list(day or "")):
        entry = entry_of(name)
        if not is_waiting(name) or entry in recorded:
            continue
        manifest = entry.partition("/")[2].partition(".")[0]
        if entry in found or manifests.source_of(tx, manifest) == source_id:
            found.setdefault(entry, []).extend(quarantine.records_in(name))
    return {entry: records for entry, records in found.items() if records}


def entry_as_kept(quarantine: Quarantine, name: str, records: Sequence[Record]) -> list[Entry]:
    """What an entry keeps that the ledger does not know."""
    return [
        Entry(
            name=name,
            key=one.key,
            state=KEPT,
            manifest=one.manifest,
            day=_day_of(name),
            kind=one.kind,
            subscriber=one.subscriber,
            etag=one.etag,
            offset=one.offset,
            reason=one.reason,
            records=one.records,
            size_bytes=one.size_bytes,
            kept_at=utc_now(),
            kept_by=_FROM_EARLIER,
        )
        for one in quarantine.summary(name, records)
    ]


def adopt(place: Workspace, day: date | None = None) -> list[str]:
    """Record what :func:`unrecorded` finds, and move the objects of records that no longer wait by the ledger.

    Returns:
        Entries that are left, since the files or batches that they belong to are still in progress.
    """
    with place.ledger.read() as tx:
        source_id = sources.source_id(tx, place.source.url)
        if source_id is None:
            return []
        found = unrecorded(place.quarantine, tx, source_id, day.isoformat() if day else None)
        entries = quarantined.entries(tx, source_id, day=day)
        final = {entry for entry, records in found.items() if is_final(tx, records[0])}
    for entry in final:
        kept = place.quarantine.summary(entry, found[entry])
        of_day = _day_of(entry)
        with place.ledger.write() as tx:
            quarantined.keep(tx, source_id, kept, day=of_day, run_id=_FROM_EARLIER, now=utc_now())
    waiting = {(one.name, one.key) for one in entries if one.state == KEPT}
    objects = {entry_of(name) for name in place.quarantine.objects.list(day.isoformat() if day else "")}
    for one in entries:
        # A process died after it had changed the ledger.
        if one.changed_at is not None and one.name in objects and (one.name, one.key) not in waiting:
            move_objects(place, [one], Change(one.state, one.changed_by or "", one.why or "", one.changed_at))
    return [entry for entry in found if entry not in final]


def is_final(tx: Connection, record: Record) -> bool:
    """Whether no one writes the record again: the reading that it comes from was recorded, the batch accepted.

    A process that dies before that leaves its records behind, and the next one starts again.
    """
    if record.kind == STRETCH:
        return manifests.was_recorded(tx, record.manifest)
    return record.kind == FILE or deliveries.is_settled(tx, record.manifest, record.subscriber, record.batch)


def _day_of(entry: str) -> date:
    return date.fromisoformat(entry.partition("/")[0])
