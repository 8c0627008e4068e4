"""Planning: new files become manifests, and every manifest is owed to whom it concerns, in one transaction."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.owing import owe
from export_pipeline.ledger.subscriptions import Subscription, inactive
from export_pipeline.source.file import SourceFile, utf8

_KEYS_A_QUERY = 500


class DatedFile(NamedTuple):
    """A file and the day that its key tells."""

    file: SourceFile
    day: date


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """How files are grouped and later cut. The cutting limits are part of a manifest's identity.

    Attributes:
        max_events: most events a batch.
        max_bytes: most NDJSON bytes a batch.
        manifest_max_files: most files a manifest.
        manifest_max_bytes: most stored bytes a manifest, so that staging stays small; one larger file stands alone.
    """

    max_events: int
    max_bytes: int
    manifest_max_files: int
    manifest_max_bytes: int


def manifest_id(url: str, files: Iterable[SourceFile], *, max_events: int, max_bytes: int) -> str:
    """The name of exactly these bytes cut by exactly these limits: 24 hexadecimal digits of a SHA-256."""
    digest = hashlib.sha256(f"{url}\n{max_events}\n{max_bytes}\n".encode())
    for file in files:
        digest.update(f"{file.key}\0{file.etag}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]


def etags_of(tx: Connection, source: int, keys: Sequence[str]) -> dict[str, set[str]]:
    """Key → etags of those of *keys* that the ledger has seen, however far apart they lie."""
    f = t.files.c
    known: dict[str, set[str]] = {}
    for at in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[at : at + _KEYS_A_QUERY]
        for key, etag in tx.execute(select(f.key, f.etag).where(f.source_id == source, f.key.in_(some))):
            known.setdefault(key, set()).add(etag)
    return known


def plan(
    tx: Connection,
    *,
    source: int,
    url: str,
    files: Sequence[DatedFile],
    subscriptions: Sequence[Subscription],
    limits: PlanLimits,
    run_id: str,
    now: datetime,
) -> list[str]:
    """Group *files* (in key order, none of them known) into manifests and owe them.

    Files of one manifest share their day and the subscribers they are owed to, so that a manifest is always owed whole.

    Returns:
        The manifests' ids, in key order of their first files.
    """
    ids: list[str] = []
    for day, owed_to, group in _groups(files, subscriptions, inactive(tx, source), limits):
        identity = manifest_id(url, group, max_events=limits.max_events, max_bytes=limits.max_bytes)
        add_manifest(
            tx,
            identity,
            group,
            source=source,
            day=day,
            max_events=limits.max_events,
            max_bytes=limits.max_bytes,
            run_id=run_id,
            now=now,
        )
        add_files(tx, identity, group, source=source, day=day, now=now)
        owe(tx, identity, owed_to, day=day, first_key=group[0].key, now=now)
        ids.append(identity)
    return ids


def add_manifest(
    tx: Connection,
    identity: str,
    files: Sequence[SourceFile],
    *,
    source: int,
    day: date,
    max_events: int,
    max_bytes: int,
    run_id: str,
    now: datetime,
    origin: str = t.SOURCE,
) -> None:
    """Write down a manifest that nobody has read yet. Its files are written, or moved, by the caller."""
    tx.execute(
        insert(t.manifests).values(
            id=identity,
            source_id=source,
            origin=origin,
            day=day,
            first_key=files[0].key,
            files=len(files),
            size_bytes=sum(file.size_bytes for file in files),
            max_events=max_events,
            max_bytes=max_bytes,
            state=t.PLANNED,
            planned_at=now,
            planned_by_run=run_id,
            read_attempts=0,
        )
    )


def add_files(
    tx: Connection, identity: str, files: Sequence[SourceFile], *, source: int, day: date, now: datetime
) -> None:
    """Write down files that the ledger has not seen before, as those of a manifest."""
    tx.execute(
        insert(t.files),
        [
            {
                "source_id": source,
                "key": file.key,
                "etag": file.etag,
                "size_bytes": file.size_bytes,
                "last_modified": file.last_modified,
                "day": day,
                "manifest_id": identity,
                "seen_at": now,
            }
            for file in files
        ],
    )


def note_ignored(tx: Connection, *, source: int, files: Sequence[DatedFile], note: str, now: datetime) -> None:
    """Remember files that were seen and, by configuration, not taken: they are reported once, not at every run."""
    rows = [
        {
            "source_id": source,
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


def set_more_to_list(tx: Connection, source: int, more: bool) -> None:
    """Tell the sensor whether the last listing stopped at its limit."""
    tx.execute(update(t.sources).where(t.sources.c.id == source).values(more_to_list=more))


def more_to_list(tx: Connection, source: int) -> bool:
    """Whether the last listing stopped at its limit."""
    return bool(tx.execute(select(t.sources.c.more_to_list).where(t.sources.c.id == source)).scalar())


def _groups(
    files: Sequence[DatedFile], subscriptions: Sequence[Subscription], away: Sequence[Subscription], limits: PlanLimits
) -> list[tuple[date, tuple[int, ...], list[SourceFile]]]:
    """Days, to whom they are owed, and files that belong together: nobody's start lies among them.

    Args:
        away: owed nothing now, but all within their start when they come back.
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
