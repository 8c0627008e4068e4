"""Planning: groups new files into manifests, and owes each manifest to its subscribers, in one transaction."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from sqlalchemy import Connection, insert

from export_pipeline.ledger import manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.deliveries import owe
from export_pipeline.ledger.records import DatedFile, PlanLimits, Run, Subscription
from export_pipeline.ledger.sources import lower_first_day
from export_pipeline.ledger.subscriptions import inactive
from export_pipeline.source.file import SourceFile, utf8


def plan(
    tx: Connection,
    *,
    source_id: int,
    url: str,
    files: Sequence[DatedFile],
    subscriptions: Sequence[Subscription],
    limits: PlanLimits,
    run: Run,
) -> list[str]:
    """Group *files* (in key order, none of them known) into manifests and owe them.

    Files of one manifest share their day and the subscribers they are owed to, so that a manifest is always owed whole.

    Returns:
        The manifests' ids, in key order of their first files.
    """
    ids: list[str] = []
    for day, owed_to, group in _groups(files, subscriptions, inactive(tx, source_id), limits):
        manifest_id = manifests.manifest_id_of(url, group, max_events=limits.max_events, max_bytes=limits.max_bytes)
        manifests.add(
            tx,
            manifest_id,
            group,
            source_id=source_id,
            day=day,
            max_events=limits.max_events,
            max_bytes=limits.max_bytes,
            run=run,
        )
        add_files(tx, manifest_id, group, source_id=source_id, day=day, now=run.now)
        owe(tx, manifest_id, owed_to, day=day, first_key=group[0].key, now=run.now)
        ids.append(manifest_id)
    if files:
        lower_first_day(tx, source_id, min(one.day for one in files))
    return ids


def note_ignored(tx: Connection, *, source_id: int, files: Sequence[DatedFile], note: str, now: datetime) -> None:
    """Record files that were seen and, by configuration, not taken: they are reported once, not at every run."""
    rows = [
        {
            "source_id": source_id,
            "key": dated.file.key,
            "etag": dated.file.etag,
            "size_bytes": dated.file.size_bytes,
            "last_modified": dated.file.last_modified,
            "day": dated.day,
            "seen_at": now,
            "note": note,
        }
        for dated in files
    ]
    if rows:
        tx.execute(insert(t.files), rows)


def _groups(
    files: Sequence[DatedFile], subscriptions: Sequence[Subscription], away: Sequence[Subscription], limits: PlanLimits
) -> list[tuple[date, tuple[int, ...], list[SourceFile]]]:
    """Days, the subscribers they are owed to, and files that belong together: no subscriber's start is among them.

    Args:
        away: owed nothing now, but everything after their start when they come back.
    """
    together: dict[tuple[date, tuple[int, ...], tuple[int, ...]], list[SourceFile]] = {}
    for dated in files:
        owed_to, owed_later = (
            tuple(sub.id for sub in subs if sub.owes(dated.file, dated.day)) for subs in (subscriptions, away)
        )
        together.setdefault((dated.day, owed_to, owed_later), []).append(dated.file)
    groups = [
        (day, owed_to, part) for (day, owed_to, _), members in together.items() for part in _split(members, limits)
    ]
    return sorted(groups, key=lambda group: utf8(group[2][0].key))


def _split(files: list[SourceFile], limits: PlanLimits) -> Iterable[list[SourceFile]]:
    part: list[SourceFile] = []
    size_bytes = 0
    for file in files:
        full = len(part) >= limits.manifest_max_files or size_bytes + file.size_bytes > limits.manifest_max_bytes
        if part and full:
            yield part
            part, size_bytes = [], 0
        part.append(file)
        size_bytes += file.size_bytes
    if part:
        yield part


def add_files(
    tx: Connection,
    manifest_id: str,
    files: Sequence[SourceFile],
    *,
    source_id: int,
    day: date,
    now: datetime,
    note: str | None = None,
) -> None:
    """Write down files that the ledger has not seen before, as those of a manifest.

    Args:
        note: the object of the quarantine that they were made of.
    """
    tx.execute(
        insert(t.files),
        [
            {
                "source_id": source_id,
                "key": file.key,
                "etag": file.etag,
                "size_bytes": file.size_bytes,
                "last_modified": file.last_modified,
                "day": day,
                "manifest_id": manifest_id,
                "seen_at": now,
                "note": note,
            }
            for file in files
        ],
    )
