"""Keep the ledger small (``ledger.keep_days``), and bring back of it what is asked for again."""

from datetime import datetime, timedelta, timezone

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import attempts, folding, readings, subscriptions
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.ledger.readings import Manifest
from export_pipeline.printable import printable
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source
from export_pipeline.steps.workspace import Workspace

# A transaction of so many manifests keeps other writers waiting for some ten milliseconds.
_AT_ONCE = 20
MOST_A_RUN = 200
"""Manifests that one run folds: some tenths of a second, and 28,000 manifests a day at a run every ten minutes."""


def fold_old_days(
    source: Source, ledger: Ledger, *, keep_days: int | None, now: datetime, most: int = MOST_A_RUN
) -> int:
    """Fold manifests of days that ended more than *keep_days* ago, the oldest first.

    Costs one short query where this day's folding is done. While another process plans it does nothing, and leaves
    the work to the next run.

    Args:
        keep_days: None: nothing is folded.
        now: aware.
        most: how many manifests.

    Returns:
        How many were folded.
    """
    if keep_days is None:
        return 0
    before = now.astimezone(timezone.utc).date() - timedelta(days=keep_days)
    with ledger.read() as tx:
        number = subscriptions.source_id(tx, source.url)
        done = folding.folded_before(tx, number) if number is not None else None
    if number is None or (done is not None and done >= before):
        return 0
    count = 0
    # The claim of who plans and backfills: what is owed does not change while it is looked at.
    with ledger.claims.claim(f"plan:{source.url}") as mine:
        while mine and count < most:
            with ledger.write(durable=True) as tx:
                folded = folding.fold(tx, number, before=before, most=min(_AT_ONCE, most - count), now=now)
                if not folded:
                    folding.set_folded_before(tx, number, before)
                    break
            count += folded
    return count


def bring_back(place: Workspace, found: Manifest) -> Manifest | None:
    """Unfold a manifest, its files found in the source by their fingerprints.

    The caller holds the claim of reading it.

    Returns:
        The manifest with its files; None where what is owed of it was given up, because files of it are gone. Should
        they come back, a backfill of the day owes it again.

    Raises:
        LedgerError: files of it are not in the source now. After ``max_attempts`` tries it is given up.
        ListingFailed: the source could not be listed.
    """
    with place.ledger.read() as tx:
        first_key, last_key, wanted = folding.stretch(tx, found.id)
    # A string that sorts right before every key from first_key on, as far as a listing can be told.
    listing = place.source.list_files(after=first_key[:-1], before=last_key + "\0")
    files: list[SourceFile] = [file for file in listing if folding.fingerprint(file) in wanted]
    if len(files) == len(wanted):
        with place.ledger.write(durable=True) as tx:
            folding.unfold(tx, found.id, files, url=place.source.url, now=utc_now())
            return readings.manifest(tx, found.id)
    reason = (
        f"manifest {found.id} of {found.day}: {len(wanted) - len(files)} of its {len(wanted)} files, between "
        f"{printable(first_key)} and {printable(last_key)}, are no longer in the source as they were delivered"
    )
    with place.ledger.write(durable=True) as tx:
        tries = readings.count_failure(tx, found.id, reason)
        if tries >= place.max_attempts:
            attempts.give_up_owed(tx, found.id, reason)
            return None
    raise LedgerError(f"{reason}; try {tries} of {place.max_attempts}, then what is owed of it is given up")
