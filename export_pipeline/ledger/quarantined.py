"""The life of what is in the quarantine, as the ledger counts it: by entry, file and state.

    kept ─┬─ retry ────────────▶ retried ── it fails again ─▶ kept
          ├─ dismiss ──────────▶ dismissed (by whom, and why)
          └─ a newer file ─────▶ resolved (also when a replay delivered what a subscriber had refused)

The records themselves, with their bytes, are objects in the quarantine, which several deployments may share: only this
table says which of them are those of one source.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from export_pipeline.batching.record import FILE, Kept
from export_pipeline.ledger import tables as t

KEPT, RETRIED, DISMISSED, RESOLVED = "kept", "retried", "dismissed", "resolved"
STATES = (KEPT, RETRIED, DISMISSED, RESOLVED)
_KEYS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry of the quarantine keeps of one file, in one state.

    Attributes:
        name: of the entry: its objects without ending and part.
        key, etag: of the file in the source; empty if not known.
        offset, reason: of the first record.
        kept_by: the run.
        changed_at, changed_by, why: of the state; None while it is kept.
    """

    name: str
    key: str
    state: str
    manifest: str
    day: date
    kind: str
    subscriber: str
    etag: str
    offset: int
    reason: str
    records: int
    size_bytes: int
    kept_at: datetime
    kept_by: str
    changed_at: datetime | None = None
    changed_by: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Why records no longer wait.

    Attributes:
        by: a run, or a user.
    """

    to: str
    by: str
    why: str
    at: datetime

    @property
    def life(self) -> dict[str, str]:
        """As it is in the record."""
        return {"state": self.to, "at": self.at.isoformat(timespec="seconds"), "by": self.by, "why": self.why}


def keep(tx: Connection, source_id: int, kept: Sequence[Kept], *, day: date, run_id: str, now: datetime) -> None:
    """Record what some entries keep. What happened to them before, such as a retry that failed, is replaced."""
    q = t.quarantined.c
    for name in {one.name for one in kept}:
        tx.execute(delete(t.quarantined).where(q.source_id == source_id, q.name == name))
    rows = [
        {
            "source_id": source_id,
            "name": one.name,
            "key": one.key,
            "state": KEPT,
            "manifest_id": one.manifest,
            "day": day,
            "kind": one.kind,
            "subscriber": one.subscriber,
            "etag": one.etag,
            "first_offset": one.offset,
            "reason": one.reason,
            "records": one.records,
            "size_bytes": one.size_bytes,
            "kept_at": now,
            "kept_by": run_id,
        }
        for one in kept
    ]
    if rows:
        tx.execute(insert(t.quarantined), rows)


def move(tx: Connection, source_id: int, moved: Iterable[Kept | Entry], change: Change) -> None:
    """Record that this many records of some entries no longer wait."""
    q = t.quarantined.c
    for one in moved:
        of_file = and_(q.source_id == source_id, q.name == one.name, q.key == one.key)
        kept = tx.execute(select(t.quarantined).where(of_file, q.state == KEPT)).mappings().first()
        if kept is None:
            continue  # by a process that died after this
        there = tx.execute(select(q.records, q.size_bytes).where(of_file, q.state == change.to)).first()
        own = {"changed_at": change.at, "changed_by": change.by, "why": change.why}
        if there is not None:
            more = {"records": there.records + one.records, "size_bytes": there.size_bytes + one.size_bytes}
            tx.execute(update(t.quarantined).where(of_file, q.state == change.to).values(**own, **more))
        else:
            of_these = {"records": one.records, "size_bytes": one.size_bytes}
            tx.execute(insert(t.quarantined).values({**kept, **own, **of_these, "state": change.to}))
        rest = kept["records"] - one.records
        if rest > 0:
            left = {"records": rest, "size_bytes": max(0, kept["size_bytes"] - one.size_bytes)}
            tx.execute(update(t.quarantined).where(of_file, q.state == KEPT).values(left))
        else:
            tx.execute(delete(t.quarantined).where(of_file, q.state == KEPT))


def waits(tx: Connection, source_id: int, name: str, keys: Collection[str]) -> bool:
    """Whether an entry's records of each of these files wait, as far as the ledger knows them."""
    q = t.quarantined.c
    states: dict[str, set[str]] = {}
    for key, state in tx.execute(select(q.key, q.state).where(q.source_id == source_id, q.name == name)):
        states.setdefault(key, set()).add(state)
    return all(KEPT in states[key] for key in keys if key in states)


def forget(tx: Connection, source_id: int, names: Iterable[str]) -> None:
    """Forget entries whose records others keep."""
    q = t.quarantined.c
    for name in names:
        tx.execute(delete(t.quarantined).where(q.source_id == source_id, q.name == name, q.state == KEPT))


def entries(
    tx: Connection,
    source_id: int,
    *,
    states: Collection[str] = STATES,
    day: date | None = None,
    manifest: str | None = None,
    names: Collection[str] | None = None,
    key: str | None = None,
    newest: int | None = None,
) -> list[Entry]:
    """Entries by day, name and file.

    Args:
        key: of a file in the source.
        newest: only this many, those that were kept last.
    """
    q = t.quarantined.c
    query = select(*_columns()).where(q.source_id == source_id, q.state.in_(list(states)))
    if day is not None:
        query = query.where(q.day == day)
    if manifest is not None:
        query = query.where(q.manifest_id == manifest)
    if names is not None:
        query = query.where(q.name.in_(list(names)))
    if key is not None:
        query = query.where(q.key == key)
    if newest is not None:
        query = query.order_by(q.kept_at.desc(), q.name, q.key).limit(newest)
    else:
        query = query.order_by(q.day, q.name, q.key)
    return [_entry(row) for row in tx.execute(query)]


def of_older_files(tx: Connection, source_id: int, etags: Mapping[str, str]) -> list[Entry]:
    """What is kept of files in whose place there is another now.

    Args:
        etags: key → etag of the other one.
    """
    q = t.quarantined.c
    keys = sorted(etags)
    found: list[Entry] = []
    for at in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[at : at + _KEYS_A_QUERY]
        rows = tx.execute(
            select(*_columns()).where(q.source_id == source_id, q.key.in_(some), q.state == KEPT).order_by(q.name)
        )
        found += [one for one in map(_entry, rows) if one.etag != etags[one.key]]
    return found


def known_names(tx: Connection, source_id: int) -> set[str]:
    """The names of all entries, in every state."""
    return set(tx.execute(select(t.quarantined.c.name).where(t.quarantined.c.source_id == source_id)).scalars())


def counts(tx: Connection, source_id: int, *, day: date | None = None) -> dict[str, int]:
    """State → number of records, for every state."""
    q = t.quarantined.c
    query = select(q.state, func.sum(q.records)).where(q.source_id == source_id)
    if day is not None:
        query = query.where(q.day == day)
    found = {state: int(number) for state, number in tx.execute(query.group_by(q.state))}
    return {state: found.get(state, 0) for state in STATES}


def kept_by_run(tx: Connection, source_id: int, run_id: str) -> dict[str, int]:
    """Kind → number of records that a run put into the quarantine."""
    q = t.quarantined.c
    query = select(q.kind, func.sum(q.records)).where(q.source_id == source_id, q.kept_by == run_id)
    return {kind: int(number) for kind, number in tx.execute(query.group_by(q.kind))}


def is_settled() -> ColumnElement[bool]:
    """Whether a manifest that was given up needs no attention: it was dismissed, or newer files replace its own."""
    q = t.quarantined.c
    of_it = select(q.name).where(q.manifest_id == t.manifests.c.id, q.kind == FILE)
    waits = of_it.where(q.state.in_((KEPT, RETRIED))).exists()
    return and_(of_it.where(q.state.in_((DISMISSED, RESOLVED))).exists(), ~waits)


def _entry(row: Row[Any]) -> Entry:
    return Entry(**row._mapping)


def _columns() -> list[ColumnElement[Any]]:
    q = t.quarantined.c
    return [
        q.name,
        q.key,
        q.state,
        q.manifest_id.label("manifest"),
        q.day,
        q.kind,
        q.subscriber,
        q.etag,
        q.first_offset.label("offset"),
        q.reason,
        q.records,
        q.size_bytes,
        q.kept_at,
        q.kept_by,
        q.changed_at,
        q.changed_by,
        q.why,
    ]
