"""Keep the ledger small (``ledger.keep_days``), and restore what is needed again."""

from collections.abc import Collection, Set
from datetime import datetime, timedelta, timezone

from export_pipeline.batching.staging import Staging
from export_pipeline.errors import LedgerError
from export_pipeline.ledger import deliveries, folding, manifests, parts, quarantined, sources, unreadable
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.records import PartFile
from export_pipeline.printable import printable
from export_pipeline.source.store import Source
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.unreadable import OwedFileLost, split_for_all

# A transaction of this many manifests blocks other writers for about ten milliseconds.
_AT_ONCE = 20
MOST_A_RUN = 200
"""Manifests that one run folds: a few tenths of a second, and 28,000 manifests a day with a run every ten minutes."""


def fold_old_days(
    source: Source, ledger: Ledger, *, keep_days: int | None, now: datetime, most: int = MOST_A_RUN
) -> int:
    """Fold manifests of days that ended more than *keep_days* ago, the oldest first.

    Costs one short query if today's folding is done. While another process is planning it does nothing, and leaves the
    work to the next run.

    Args:
        keep_days: None: fold nothing.
        now: aware.
        most: fold at most this many manifests.

    Returns:
        How many were folded.
    """
    if keep_days is None:
        return 0
    before = now.astimezone(timezone.utc).date() - timedelta(days=keep_days)
    with ledger.read() as tx:
        source_id = sources.source_id(tx, source.url)
        done = folding.folded_before(tx, source_id) if source_id is not None else None
    if source_id is None or (done is not None and done >= before):
        return 0
    count = 0
    # The lock for planning and backfills: what is owed does not change while it is examined.
    with ledger.claims.claim(f"plan:{source.url}") as mine:
        while mine and count < most:
            with ledger.write(durable=True) as tx:
                folded = folding.fold(tx, source_id, before=before, most=min(_AT_ONCE, most - count), now=now)
                if not folded:
                    folding.set_folded_before(tx, source_id, before)
                    break
            count += folded
    return count


def bring_back(place: Workspace, found: Manifest, *, run_id: str) -> Manifest:
    """Unfold a manifest, or name the files of a part, by finding its files in the source by their fingerprints.

    The caller holds the lock for reading it. If files remain missing, the others are delivered as a part to those the
    manifest is owed to, and each missing file is given up for them on its own. If one comes back, a retry from the
    quarantine or a backfill of the day owes it again.

    Raises:
        LedgerError: files of it are not in the source now. After ``max_attempts`` attempts they are given up.
        OwedFileLost: they were given up.
        ListingFailed: the source could not be listed.
    """
    with place.ledger.read() as tx:
        first_key, last_key, fingerprints = folding.stretch(tx, found.part_of or found.id)
    if found.part_of is not None:
        fingerprints = tuple(bytes.fromhex(file.etag) for file in found.files)
    # A string that sorts just before first_key and all keys after it, as exactly as a listing's start can be given.
    listing = place.source.list_files(after=first_key[:-1], before=last_key + "\0")
    there = {one: file for file in listing if (one := folding.fingerprint(file)) in set(fingerprints)}
    files = [there[one] for one in fingerprints if one in there]
    if len(files) == len(fingerprints):
        with place.ledger.write(durable=True) as tx:
            if found.part_of is None:
                folding.unfold(tx, found.id, files, url=place.source.url, now=utc_now())
            else:
                parts.set_files(tx, found.id, [PartFile(file) for file in files])
            return manifests.get(tx, found.id)
    gone = [one for one in fingerprints if one not in there]
    reason = (
        f"manifest {found.id} of {found.day}: {len(gone)} of its {len(fingerprints)} files, between "
        f"{printable(first_key)} and {printable(last_key)}, are no longer in the source as they were delivered"
    )
    with place.ledger.write(durable=True) as tx:
        tries = manifests.count_failure(tx, found.id, reason)
    if tries < place.max_attempts:
        raise LedgerError(f"{reason}; attempt {tries} of {place.max_attempts}, then the missing files are given up")
    if found.part_of is not None:
        kept = place.quarantine.put_file(manifest_id=found.id, day=found.day, file=found.files[0], reason=reason)
        with place.ledger.write(durable=True) as tx:
            unreadable.give_up(tx, found.id, reason)
            quarantined.keep(tx, found.source_id, kept, day=found.day, run_id=run_id, now=utc_now())
        raise OwedFileLost(first_key, f"{reason}; given up after {tries} attempts, and kept in the quarantine")
    done, sound = split_for_all(
        place,
        found,
        lambda tx, number: unreadable.shares_by_fingerprint(tx, found, files, gone, [number]),
        {"": reason},
        reason=reason,
        run_id=run_id,
    )
    # What an earlier reading may have left there is no longer needed.
    place.staging.delete(found.id)
    names = ", ".join(share.subscriber for share in done) or "no subscriber"
    end = f"given up for {names} after {tries} of {place.max_attempts} attempts, and kept in the quarantine"
    if sound:
        end += f"; its other files are delivered to those who have not received them, as manifest {', '.join(sound)}"
    raise OwedFileLost(first_key, f"{reason}; {end}")


def sweep_staging(staging: Staging, ledger: Ledger, *, keep: Set[str], runs: Collection[str] = ()) -> list[str]:
    """Delete staged manifests that no run is delivering: they are read again when their turn comes.

    So staging holds only what one run works on, however long a subscriber is down. Manifests that this ledger does
    not know belong to another deployment and are left alone. Leftovers of abandoned locks are deleted too.

    Args:
        keep: manifests that this run delivers.
        runs: other runs in progress; what they deliver is kept as well.
    """
    ledger.claims.sweep()
    candidates = [manifest_id for manifest_id in staging.manifests() if manifest_id not in keep]
    if not candidates:
        return []
    with ledger.read() as tx:
        if runs:
            elsewhere = deliveries.taken_by(tx, candidates, runs)
            candidates = [manifest_id for manifest_id in candidates if manifest_id not in elsewhere]
        ours = manifests.known_among(tx, candidates)
    for manifest_id in ours:
        staging.delete(manifest_id)
    return ours
