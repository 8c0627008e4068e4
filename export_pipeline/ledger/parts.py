"""Parts: the rest of a manifest that must not change, but can no longer be read as a whole.

Other subscribers have received the manifest, so its batches stay as they are. Those it is still owed to receive the
readable files in one part, and each of the other files in a separate part that may be retried. A part is a manifest
in every respect, with two exceptions: the file rows stay with the whole, so a part keeps a list of its files; and of a
file of which its subscribers have accepted events under the ids of the whole, it contains only the others. So no event
reaches a subscriber under two ids. A part is owed only to the subscribers it was made for.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from sqlalchemy import Connection, RowMapping, select, update

from export_pipeline.ledger import deliveries, manifests, records
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.deliveries import DeliveryState
from export_pipeline.ledger.folding import stands_for
from export_pipeline.ledger.records import PartFile, Ranges
from export_pipeline.source.file import SourceFile


def set_files(tx: Connection, manifest_id: str, files: Sequence[PartFile]) -> None:
    """Set the names of a part's files, now that they were found; its id stays the same."""
    values = {"part_files": records.dump_part_files(files), "first_key": files[0].file.key}
    tx.execute(update(t.manifests).where(t.manifests.c.id == manifest_id).values(values))


def part_id(whole: str, files: Sequence[PartFile]) -> str:
    """Identifies exactly these events of the manifest *whole*."""
    rows = [[one.file.key, one.file.etag, one.ranges] for one in files]
    return hashlib.sha256(f"{whole}\n{json.dumps(rows)}".encode()).hexdigest()[:24]


def described(tx: Connection, whole: str, files: Sequence[PartFile]) -> dict[str, Any]:
    """What the row of a part inherits from the whole, and of its files."""
    of: RowMapping = tx.execute(select(t.manifests).where(t.manifests.c.id == whole)).mappings().one()
    return {
        **{name: of[name] for name in manifests.OF_WHOLE},
        "first_key": files[0].file.key or of["first_key"],
        "files": len(files),
        "size_bytes": sum(one.file.size_bytes for one in files),
        "read_attempts": 0,
        "part_of": whole,
        "part_files": records.dump_part_files(files),
    }


def holding(tx: Connection, whole: str, key: str) -> list[str]:
    """The ids of those parts of the manifest *whole* that contain events of the file under *key*."""
    m = t.manifests.c
    rows = tx.execute(select(m.id, m.part_files).where(m.part_of == whole, ~manifests.is_replaced()).order_by(m.id))
    return [row.id for row in rows if any(_is_of(one.file, key) for one in records.load_part_files(row.part_files))]


def _is_of(file: SourceFile, key: str) -> bool:
    return stands_for(bytes.fromhex(file.etag), key) if records.is_nameless(file) else file.key == key


def delivery_states(tx: Connection, whole: str, key: str) -> dict[int, DeliveryState]:
    """Subscription → state of the file under *key*, for those that receive the manifest *whole* in parts.

    A subscriber that accepted all events of the file before the manifest was split has it: delivered.
    """
    d = t.deliveries.c
    split = select(d.subscription_id).where(d.manifest_id == whole, deliveries.is_split())
    states = dict.fromkeys(tx.execute(split).scalars(), deliveries.STATES[deliveries.DELIVERED])
    held = select(d.subscription_id, d.state).where(d.manifest_id.in_(holding(tx, whole, key)))
    for row in tx.execute(held) if states else ():
        if row.subscription_id in states:
            states[row.subscription_id] = deliveries.STATES[row.state]
    return states


def events_of_files(tx: Connection, manifest_id: str) -> tuple[int, ...] | None:
    """How many events of each file, in key order, are in the batches of a read manifest; None: not known."""
    found = tx.execute(select(t.manifests.c.events_of_files).where(t.manifests.c.id == manifest_id)).scalar()
    return tuple(json.loads(found)) if found else None


def not_accepted(
    files: Sequence[PartFile],
    *,
    batch_events: Sequence[int],
    accepted: Collection[int],
    accepted_events: Mapping[int, Collection[int]] | None = None,
    events_of_files: Sequence[int] | None,
) -> list[PartFile] | None:
    """Those events of a manifest that are in none of the *accepted* batches, and were not accepted by themselves.

    Args:
        files: of the manifest, in order.
        batch_events: how many events each of its batches contains.
        accepted: numbers of batches.
        accepted_events: number of another batch → the numbers in it of the events that were accepted.
        events_of_files: how many events of each file the batches hold; None: not known.

    Returns:
        Files with the events that are left, in order; None if unknown.
    """
    by_themselves = {n: events for n, events in (accepted_events or {}).items() if n not in accepted}
    if not accepted and not by_themselves:
        return list(files)
    if events_of_files is None:
        return None
    ends = list(accumulate(batch_events))
    left = [
        (end - batch_events[n] + start, end - batch_events[n] + stop)
        for n, end in enumerate(ends)
        if n not in accepted
        for start, stop in _without(batch_events[n], by_themselves.get(n, ()))
    ]
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


def _without(events: int, accepted: Collection[int]) -> list[tuple[int, int]]:
    """The ranges of *events* events that contain none of *accepted*."""
    bounds = [-1, *sorted(accepted), events]
    return [(before + 1, after) for before, after in pairwise(bounds) if before + 1 < after]


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
