"""Parts: what goes on alone of a manifest that must not change, and that can no longer be read whole.

Others have got the manifest, so its batches stay what they are. Those it is still owed to get the files that can be
read in one part, and each of the others in a part of its own that may be tried again. A part is a manifest in every
respect, with two exceptions: the rows of its files stay those of the whole, so it keeps a list of them; and of a file
of which its subscribers have accepted events under the ids of the whole it holds only the others. So no event comes to
a subscriber under two ids. A part is owed only to those for whom it was made.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.folding import stands_for
from export_pipeline.ledger.owing import owe
from export_pipeline.source.file import SourceFile

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file of a part.

    Attributes:
        file: of a folded manifest, where the file is gone and only its fingerprint is left, one without a key, and with
            the fingerprint in the place of its etag; see :func:`is_nameless`.
        ranges: which of its events belong to the part, by their numbers from 0: first one, and the one behind the last;
            None: all of them.
    """

    file: SourceFile
    ranges: Ranges | None = None


def nameless(fingerprint: bytes) -> PartFile:
    """A folded file that is gone."""
    return PartFile(SourceFile("", fingerprint.hex(), 0, datetime.fromtimestamp(0, timezone.utc)))


def is_nameless(file: SourceFile) -> bool:
    """Whether only the fingerprint of the file is known."""
    return not file.key


def set_files(tx: Connection, identity: str, files: Sequence[PartFile]) -> None:
    """Give the files of a part their names, now that they were found; its id stays what it is."""
    values = {"part_files": dump(files), "first_key": files[0].file.key}
    tx.execute(update(t.manifests).where(t.manifests.c.id == identity).values(values))


def part_id(whole: str, files: Sequence[PartFile]) -> str:
    """The name of exactly these events of the manifest *whole*."""
    rows = [[one.file.key, one.file.etag, one.ranges] for one in files]
    return hashlib.sha256(f"{whole}\n{json.dumps(rows)}".encode()).hexdigest()[:24]


def dump(files: Iterable[PartFile]) -> str:
    """*files* as they are kept in the ledger."""
    rows = [
        [one.file.key, one.file.etag, one.file.size_bytes, one.file.last_modified.timestamp(), one.ranges]
        for one in files
    ]
    return json.dumps(rows, separators=(",", ":"))


def load(text: str) -> list[PartFile]:
    """What :func:`dump` kept."""
    return [
        PartFile(
            SourceFile(key, etag, size_bytes, datetime.fromtimestamp(modified, timezone.utc)),
            None if ranges is None else tuple((start, stop) for start, stop in ranges),
        )
        for key, etag, size_bytes, modified, ranges in json.loads(text)
    ]


def add(
    tx: Connection,
    whole: str,
    files: Sequence[PartFile],
    owed_to: Iterable[tuple[int, str | None]],
    *,
    state: str = t.PLANNED,
    reason: str | None = None,
    run_id: str,
    now: datetime,
) -> str:
    """Write down a part of the manifest *whole*, or owe the one that is there already.

    Args:
        owed_to: subscriptions, each with the run that takes it to them, if one does.
        state: ``given_up``: it lies in the quarantine, for this *reason*, and is given up for these subscriptions. For
            others that it is owed to it stays open.

    Returns:
        Its id.
    """
    identity = part_id(whole, files)
    m, d = t.manifests.c, t.deliveries.c
    known = tx.execute(select(m.state, m.read_at).where(m.id == identity)).first()
    if known is None:
        tx.execute(
            insert(t.manifests).values(
                **_of_whole(tx, whole, files),
                id=identity,
                state=state,
                last_error=reason,
                planned_at=now,
                planned_by_run=run_id,
            )
        )
    elif known.state == t.SUPERSEDED:
        # Its files were set apart for others since; for these they are tried together first.
        values: dict[str, Any] = {"state": state, "last_error": reason, "successor_id": None, "read_at": None}
        tx.execute(update(t.manifests).where(m.id == identity).values(**values, read_attempts=0, batches=None))
    elif known.state == t.GIVEN_UP and state != t.GIVEN_UP:
        values = {"state": t.READ if known.read_at else t.PLANNED, "last_error": None, "read_attempts": 0}
        tx.execute(update(t.manifests).where(m.id == identity).values(values))
    there = set(tx.execute(select(d.subscription_id).where(d.manifest_id == identity)).scalars())
    day, first_key = tx.execute(select(m.day, m.first_key).where(m.id == identity)).one()
    for subscription, run in owed_to:
        if subscription not in there:
            owe(tx, identity, [subscription], day=day, first_key=first_key, now=now, run_id=run)
        if state == t.GIVEN_UP:
            of_it = (d.manifest_id == identity, d.subscription_id == subscription)
            tx.execute(update(t.deliveries).where(*of_it).values(state=t.GIVEN_UP, last_error=reason))
    return identity


def holding(tx: Connection, whole: str, key: str) -> list[str]:
    """The ids of those parts of the manifest *whole* that hold events of the file under *key*."""
    m = t.manifests.c
    rows = tx.execute(select(m.id, m.part_files).where(m.part_of == whole, m.state != t.SUPERSEDED).order_by(m.id))
    return [row.id for row in rows if any(_is_of(one.file, key) for one in load(row.part_files))]


def _is_of(file: SourceFile, key: str) -> bool:
    return stands_for(bytes.fromhex(file.etag), key) if is_nameless(file) else file.key == key


def delivery_states(tx: Connection, whole: str, key: str) -> dict[int, str]:
    """Subscription → how it stands with the file under *key*, of those that get the manifest *whole* in parts.

    Who has accepted all events of the file before the manifest was split has it: delivered.
    """
    d = t.deliveries.c
    split = select(d.subscription_id).where(d.manifest_id == whole, d.state == t.SPLIT)
    states = dict.fromkeys(tx.execute(split).scalars(), t.DELIVERED)
    held = select(d.subscription_id, d.state).where(d.manifest_id.in_(holding(tx, whole, key)))
    for row in tx.execute(held) if states else ():
        if row.subscription_id in states:
            states[row.subscription_id] = row.state
    return states


def not_accepted(
    files: Sequence[PartFile],
    *,
    batch_events: Sequence[int],
    accepted: Collection[int],
    events_of_files: Sequence[int] | None,
) -> list[PartFile] | None:
    """Those events of a manifest that lie in none of the *accepted* batches.

    Args:
        files: of the manifest, in order.
        batch_events: how many events each of its batches holds.
        accepted: numbers of batches.
        events_of_files: how many events of each file the batches hold; None: not known.

    Returns:
        Files with the events that are left, in order; None where it cannot be told.
    """
    if not accepted:
        return list(files)
    if events_of_files is None:
        return None
    ends = list(accumulate(batch_events))
    left = [(end - batch_events[n], end) for n, end in enumerate(ends) if n not in accepted]
    found = []
    first = 0
    for one, events in zip(files, events_of_files, strict=True):
        ranges = [
            (max(start, first) - first, min(stop, first + events) - first)
            for start, stop in left
            if start < first + events and stop > first
        ]
        if ranges:
            found.append(one if _is_all(ranges, events) else PartFile(one.file, _within(one.ranges, ranges)))
        first += events
    return found


def _is_all(ranges: Sequence[tuple[int, int]], events: int) -> bool:
    return sum(stop - start for start, stop in ranges) == events


def _within(outer: Ranges | None, inner: Sequence[tuple[int, int]]) -> Ranges:
    """*inner*, which counts the events of *outer* alone, as numbers of events of the file; neighbours joined."""
    found: list[tuple[int, int]] = []
    before = 0
    for start, stop in outer or ((0, inner[-1][1]),):
        for first, end in inner:
            low, high = max(first, before), min(end, before + stop - start)
            if low < high:
                begin = start + low - before
                if found and found[-1][1] == begin:
                    begin = found.pop()[0]
                found.append((begin, start + high - before))
        before += stop - start
    return tuple(found)


def _of_whole(tx: Connection, whole: str, files: Sequence[PartFile]) -> dict[str, Any]:
    """What a part has of the whole, and of its files."""
    of: RowMapping = tx.execute(select(t.manifests).where(t.manifests.c.id == whole)).mappings().one()
    return {
        **{name: of[name] for name in ("source_id", "origin", "day", "max_events", "max_bytes", "read_limits")},
        "first_key": files[0].file.key or of["first_key"],
        "files": len(files),
        "size_bytes": sum(one.file.size_bytes for one in files),
        "read_attempts": 0,
        "part_of": whole,
        "part_files": dump(files),
    }
