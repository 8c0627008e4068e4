"""Handles manifests that cannot be read, or not completely.

If no subscriber has accepted any of it, its unreadable files are isolated, each in a separate manifest that is
retried alone. If others have received it, it is split, and those it is still owed to receive parts of it. A file that
no attempt can read is given up, and reopened by a retry from the quarantine.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    select,
    update,
)

from export_pipeline.ledger import deliveries, manifests, parts, portions, records, subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.deliveries import owe, owe_missing
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.records import PartFile, Run
from export_pipeline.ledger.sources import hold_still
from export_pipeline.source.file import SourceFile


@dataclass(frozen=True, slots=True)
class Share:
    """What one subscriber receives of a manifest that is split.

    Attributes:
        sound: readable files, or events of them, that it has not accepted yet.
        lost: the same, of unreadable files.
        is_indivisible: it has no share: it received everything before and was to receive it again, or it has accepted
            some events and nobody can tell which.
    """

    subscription: int
    subscriber: str
    sound: tuple[PartFile, ...]
    lost: tuple[PartFile, ...]
    is_indivisible: bool = False


def isolate(tx: Connection, found: Manifest, unreadable: Mapping[str, str], *, url: str, run: Run) -> str | None:
    """Isolate unreadable files, each in a separate manifest that later runs read alone.

    Args:
        unreadable: key → what is wrong with it.

    Returns:
        The id of the manifest with the readable files; None if none is left.
    """
    owed_to = _take_away(tx, found)
    readable = [one for one in found.part_files if one.file.key not in unreadable]
    rest = _replan(tx, found, readable, owed_to, url=url, run=run) if readable else None
    for one in found.part_files:
        if one.file.key in unreadable:
            alone = _replan(tx, found, [one], owed_to, url=url, run=run)
            manifests.count_failure(tx, alone, unreadable[one.file.key])
    manifests.replace(tx, found.id, rest)
    return rest


def divide(tx: Connection, found: Manifest, groups: Iterable[Sequence[SourceFile]], *, url: str, run: Run) -> list[str]:
    """Replace a manifest whose reader died by one manifest for each of *groups*, to find the cause.

    No file of it is to blame so far, so no attempt is counted.

    Returns:
        Their ids.
    """
    owed_to = _take_away(tx, found)
    members = {one.file: one for one in found.part_files}
    ids = [_replan(tx, found, [members[file] for file in group], owed_to, url=url, run=run) for group in groups]
    manifests.replace(tx, found.id, None)
    return ids


def give_up(tx: Connection, manifest_id: str, reason: str) -> None:
    """Close a manifest whose file is in the quarantine as a whole; a retry from there reopens it."""
    _hold_still(tx, manifest_id)
    manifests.give_up(tx, manifest_id, reason)
    deliveries.give_up(tx, manifest_id)


def reopen(tx: Connection, manifest_id: str) -> None:
    """Owe a given-up manifest again, as if it had never been tried; also to subscribers added since."""
    _hold_still(tx, manifest_id)
    opened = manifests.reopen(tx, manifest_id)
    if deliveries.reopen(tx, manifest_id) or opened:
        manifests.forget_failures(tx, manifest_id)
    if not opened:
        return  # it was given up for some alone, and stayed open for new subscribers
    # While it was given up, no new subscriber was owed it. Removed subscribers are owed it when they come back.
    found = manifests.get(tx, manifest_id)
    for one in subscriptions.active(tx, found.source_id):
        if all(one.owes(file, found.day) for file in found.files):
            owe_missing(tx, one.id, t.manifests.c.id == manifest_id, now=utc_now())


def _hold_still(tx: Connection, manifest_id: str) -> None:
    hold_still(tx, tx.execute(select(t.manifests.c.source_id).where(t.manifests.c.id == manifest_id)).scalar_one())


def _take_away(tx: Connection, found: Manifest) -> list[tuple[int, str | None]]:
    """Delete a manifest's deliveries and batches, because others replace it.

    Returns:
        The subscriptions that it was owed to, each with the run that delivers it, if one does.
    """
    hold_still(tx, found.source_id)
    owed_to = deliveries.take_away(tx, found.id)
    tx.execute(delete(t.batches).where(t.batches.c.manifest_id == found.id))
    return owed_to


def _replan(
    tx: Connection,
    found: Manifest,
    members: Sequence[PartFile],
    owed_to: Iterable[tuple[int, str | None]],
    *,
    url: str,
    run: Run,
) -> str:
    if found.part_of is not None:
        return _add_part(tx, found.part_of, members, owed_to, run=run)
    files = [one.file for one in members]
    manifest_id = manifests.add_like(tx, found, files, url=url, run=run)
    f = t.files.c
    moved = update(t.files).where(
        f.source_id == found.source_id, f.key == bindparam("of_key"), f.etag == bindparam("of_etag")
    )
    tx.execute(moved.values(manifest_id=manifest_id), [{"of_key": file.key, "of_etag": file.etag} for file in files])
    for subscription, taker in owed_to:
        owe(tx, manifest_id, [subscription], day=found.day, first_key=files[0].key, now=run.now, run_id=taker)
    return manifest_id


def shares(
    tx: Connection,
    found: Manifest,
    unreadable: Collection[str],
    subscriptions: Collection[int],
    *,
    differs: bool = False,
) -> list[Share]:
    """What those of *subscriptions* that a manifest is owed to would receive, without the files under *unreadable*.

    Args:
        differs: it can be read, but gives other events than before, so that the accepted ones cannot be identified.
    """
    batch_events = [batch.events for batch in manifests.batches(tx, found.id)]
    known = parts.events_of_files(tx, found.id)
    result = []
    for one in deliveries.receivers(tx, found.id, subscriptions):
        accepted = deliveries.ever_accepted(tx, found.id, one, batches=len(batch_events))
        left = parts.not_accepted(
            found.part_files,
            batch_events=batch_events,
            accepted=accepted,
            accepted_events=portions.accepted(tx, found.id, one.subscription_id),
            events_of_files=None if differs else known,
        )
        has_got_all = one.is_repeated and not left
        result.append(
            Share(
                one.subscription_id,
                one.name,
                sound=tuple(member for member in left or () if member.file.key not in unreadable),
                lost=tuple(member for member in left or () if member.file.key in unreadable),
                is_indivisible=left is None or has_got_all,
            )
        )
    return result


def shares_by_fingerprint(
    tx: Connection, found: Manifest, sound: Sequence[SourceFile], gone: Sequence[bytes], subscriptions: Collection[int]
) -> list[Share]:
    """As :func:`shares`, for a folded manifest: those that it is owed to for the first time have accepted nothing.

    Args:
        sound: its files that are in the source.
        gone: fingerprints of the others.
    """
    kept, lost = tuple(map(PartFile, sound)), tuple(map(records.nameless, gone))
    return [
        Share(one.subscription_id, one.name, (), (), is_indivisible=True)
        if one.is_repeated
        else Share(one.subscription_id, one.name, kept, lost)
        for one in deliveries.receivers(tx, found.id, subscriptions)
    ]


def lost_parts(found: Manifest, given: Iterable[Share]) -> dict[str, PartFile]:
    """The id of each part that will contain an unreadable file → that file."""
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
    run: Run,
) -> list[str]:
    """Give each subscriber its share: readable files are owed in parts, lost ones are given up, each by itself.

    The caller holds the claims of reading the manifest and of delivering it to them.

    Args:
        reasons: key → why it cannot be read.
        reason: why what cannot be split is given up.
        groups: into at most how many parts the readable files are divided.

    Returns:
        The ids of the readable parts.
    """
    hold_still(tx, found.source_id)
    whole = found.part_of or found.id
    sound: list[str] = []
    for share in given:
        owed_to = [(share.subscription, None)]
        for group in grouped(share.sound, groups):
            sound.append(_add_part(tx, whole, group, owed_to, run=run))
        for one in share.lost:
            _add_part(tx, whole, [one], owed_to, why_lost=reasons[one.file.key], run=run)
        if share.is_indivisible:
            deliveries.give_up_for(tx, found.id, share.subscription, reason)
        else:
            deliveries.split_for(tx, found.id, share.subscription)
    # If it is owed to any subscriber again, its attempts start from zero.
    manifests.forget_failures(tx, found.id)
    return list(dict.fromkeys(sound))


def grouped(files: Sequence[PartFile], groups: int) -> list[Sequence[PartFile]]:
    """*files* in order, in at most *groups* groups of about equal size."""
    size = max(1, -(-len(files) // groups))
    return [files[at : at + size] for at in range(0, len(files), size)]


def _add_part(
    tx: Connection,
    whole: str,
    files: Sequence[PartFile],
    owed_to: Iterable[tuple[int, str | None]],
    *,
    why_lost: str | None = None,
    run: Run,
) -> str:
    """Record a part of the manifest *whole*, or owe the existing one.

    Args:
        owed_to: subscriptions, each with the run that delivers it to them, if one does.
        why_lost: it is in the quarantine, and is given up for these subscriptions. For others that it is owed to it
            stays open.

    Returns:
        Its id.
    """
    manifest_id = parts.part_id(whole, files)
    described = partial(parts.described, tx, whole, files)
    manifests.add_part(tx, manifest_id, described, why_lost=why_lost, run=run)
    m, d = t.manifests.c, t.deliveries.c
    there = set(tx.execute(select(d.subscription_id).where(d.manifest_id == manifest_id)).scalars())
    day, first_key = tx.execute(select(m.day, m.first_key).where(m.id == manifest_id)).one()
    for subscription, taker in owed_to:
        if subscription not in there:
            owe(tx, manifest_id, [subscription], day=day, first_key=first_key, now=run.now, run_id=taker)
        if why_lost is not None:
            deliveries.give_up_for(tx, manifest_id, subscription, why_lost)
    return manifest_id


def note_attempts(tx: Connection, manifest_ids: Iterable[str], *, began: datetime) -> None:
    """Record when a failed attempt to read these manifests began."""
    tx.execute(update(t.manifests).where(t.manifests.c.id.in_(list(manifest_ids))).values(tried_at=began))


def others_read(tx: Connection, manifest_id: str, *, began: datetime) -> bool:
    """Whether another manifest was read since the latest recorded attempt at this one: store and login work.

    Called before the current attempt, which *began* then, is recorded.
    """
    m = t.manifests.c
    tried_at = tx.execute(select(m.tried_at).where(m.id == manifest_id)).scalar_one()
    return _others_read_since(tx, manifest_id, min(tried_at or began, began))


def others_read_since_planned(tx: Connection, manifest_id: str) -> bool:
    """Whether another manifest was read since this one was planned, or isolated: runs are able to read."""
    m = t.manifests.c
    return _others_read_since(tx, manifest_id, tx.execute(select(m.planned_at).where(m.id == manifest_id)).scalar_one())


def _others_read_since(tx: Connection, manifest_id: str, since: datetime) -> bool:
    m = t.manifests.c
    # What is retried is in the quarantine: reading it says nothing about the source, and the other way round.
    found = select(m.id).where(*manifests.in_store_of(tx, manifest_id), m.read_at >= since, m.id != manifest_id)
    return tx.execute(found.limit(1)).first() is not None


def with_successors(tx: Connection, manifest_ids: Iterable[str]) -> set[str]:
    """*manifest_ids*, and those that replaced them when unreadable files were isolated."""
    m = t.manifests.c
    found: set[str] = set()
    new = set(manifest_ids)
    while new:
        found |= new
        rows = tx.execute(select(m.successor_id).where(m.id.in_(new), m.successor_id.is_not(None))).scalars()
        new = set(rows) - found
    return found
