"""Splitting a manifest that others have got, and that cannot be read whole any more, for those it is still owed to."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from export_pipeline.ledger import parts, readings
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.owing import hold_still
from export_pipeline.ledger.parts import PartFile
from export_pipeline.ledger.readings import Manifest
from export_pipeline.source.file import SourceFile


@dataclass(frozen=True, slots=True)
class Share:
    """What one subscriber gets of a manifest that is split.

    Attributes:
        sound: files, or events of them, that it has not accepted yet, and that can be read.
        lost: the same, of files that cannot be read.
        is_given_up: nothing is: it has got all before and was to get it once more, or it has accepted some and nobody
            can tell which events these were.
    """

    subscription: int
    subscriber: str
    sound: tuple[PartFile, ...]
    lost: tuple[PartFile, ...]
    is_given_up: bool = False


def shares(
    tx: Connection,
    found: Manifest,
    unreadable: Collection[str],
    subscriptions: Collection[int],
    *,
    differs: bool = False,
) -> list[Share]:
    """What those of *subscriptions* that a manifest is owed to would get, without the files under *unreadable*.

    Args:
        differs: it can be read, but comes to other events than before, so that those accepted cannot be told.
    """
    d, s = t.deliveries.c, t.subscriptions.c
    batch_events = [batch.events for batch in readings.batches(tx, found.id)]
    known = tx.execute(select(t.manifests.c.events_of_files).where(t.manifests.c.id == found.id)).scalar_one()
    rows = tx.execute(
        select(d.subscription_id, d.round, s.name)
        .join(t.subscriptions, s.id == d.subscription_id)
        .where(d.manifest_id == found.id, d.state == t.OWED, d.subscription_id.in_(subscriptions))
        .order_by(s.name)
    ).all()
    result = []
    for row in rows:
        accepted = _accepted(tx, found.id, row.subscription_id, row.round, len(batch_events))
        left = parts.not_accepted(
            found.part_files,
            batch_events=batch_events,
            accepted=accepted,
            events_of_files=None if differs or known is None else json.loads(known),
        )
        is_replay = row.round > 1 and not left
        result.append(
            Share(
                row.subscription_id,
                row.name,
                sound=tuple(one for one in left or () if one.file.key not in unreadable),
                lost=tuple(one for one in left or () if one.file.key in unreadable),
                is_given_up=left is None or is_replay,
            )
        )
    return result


def shares_of_folded(
    tx: Connection, found: Manifest, sound: Sequence[SourceFile], gone: Sequence[bytes], subscriptions: Collection[int]
) -> list[Share]:
    """As :func:`shares`, of a folded manifest: whom it is owed to for the first time has accepted none of it.

    Args:
        sound: its files that are in the source.
        gone: fingerprints of the others.
    """
    d, s = t.deliveries.c, t.subscriptions.c
    rows = tx.execute(
        select(d.subscription_id, d.round, s.name)
        .join(t.subscriptions, s.id == d.subscription_id)
        .where(d.manifest_id == found.id, d.state == t.OWED, d.subscription_id.in_(subscriptions))
        .order_by(s.name)
    ).all()
    kept, lost = tuple(map(PartFile, sound)), tuple(map(parts.nameless, gone))
    return [
        Share(row.subscription_id, row.name, (), (), is_given_up=True)
        if row.round > 1
        else Share(row.subscription_id, row.name, kept, lost)
        for row in rows
    ]


def lost_parts(found: Manifest, given: Iterable[Share]) -> dict[str, PartFile]:
    """The id of each part that will hold a file which cannot be read → that file."""
    whole = found.part_of or found.id
    return {parts.part_id(whole, [one]): one for share in given for one in share.lost}


def split(
    tx: Connection,
    found: Manifest,
    given: Iterable[Share],
    reasons: Mapping[str, str],
    *,
    reason: str,
    groups: int = 1,
    run_id: str,
    now: datetime,
) -> list[str]:
    """Give each subscriber its share: what is sound is owed in parts, what is lost is given up, each file by itself.

    The caller holds the claims of reading the manifest and of delivering it to them.

    Args:
        reasons: key → why it cannot be read.
        reason: why what cannot be split is given up.
        groups: into how many parts what is sound is cut, at most.

    Returns:
        The ids of the sound parts.
    """
    hold_still(tx, found.source_id)
    whole = found.part_of or found.id
    sound: list[str] = []
    d = t.deliveries.c
    for share in given:
        owed_to = [(share.subscription, None)]
        for group in grouped(share.sound, groups):
            sound.append(parts.add(tx, whole, group, owed_to, run_id=run_id, now=now))
        for one in share.lost:
            why = reasons[one.file.key]
            parts.add(tx, whole, [one], owed_to, state=t.GIVEN_UP, reason=why, run_id=run_id, now=now)
        state, error = (t.GIVEN_UP, reason) if share.is_given_up else (t.SPLIT, None)
        of_it = (d.manifest_id == found.id, d.subscription_id == share.subscription)
        tx.execute(update(t.deliveries).where(*of_it).values(state=state, last_error=error))
    # Should it be owed to anybody again, all tries are left.
    readings.forget_failures(tx, found.id)
    return list(dict.fromkeys(sound))


def grouped(files: Sequence[PartFile], groups: int) -> list[Sequence[PartFile]]:
    """*files* in order, in at most so many groups of about one size."""
    size = max(1, -(-len(files) // groups))
    return [files[at : at + size] for at in range(0, len(files), size)]


def _accepted(tx: Connection, identity: str, subscription: int, round_: int, batches: int) -> frozenset[int]:
    """Numbers of the batches that a subscriber has accepted, in whichever round."""
    a = t.acceptances.c
    of_it = (a.manifest_id == identity, a.subscription_id == subscription)
    accepted = frozenset(tx.execute(select(a.n).where(*of_it)).scalars())
    if round_ > 1 and not tx.execute(select(func.count()).where(*of_it, a.round < round_)).scalar():
        # It was done with, and what it accepted then was folded.
        return frozenset(range(batches))
    return accepted
