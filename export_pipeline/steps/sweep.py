"""Keep staging small."""

from collections.abc import Collection, Set

from sqlalchemy import select

from export_pipeline.batching.staging import Staging
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger


def sweep_staging(staging: Staging, ledger: Ledger, *, keep: Set[str], runs: Collection[str] = ()) -> list[str]:
    """Remove staged manifests that no run delivers now: they are read again when their turn comes.

    So staging holds what one run works on, however long a subscriber is down. Manifests that this ledger does not
    know belong to somebody else and are left alone. What abandoned claims left behind goes too.

    Args:
        keep: manifests that this run delivers.
        runs: other runs that are under way; what they deliver is kept as well.
    """
    ledger.claims.sweep()
    candidates = [identity for identity in staging.manifests() if identity not in keep]
    if not candidates:
        return []
    with ledger.read() as tx:
        if runs:
            d = t.deliveries.c
            busy = select(d.manifest_id).where(
                d.manifest_id.in_(candidates), d.state == t.OWED, d.last_run_id.in_(list(runs))
            )
            elsewhere = set(tx.execute(busy).scalars())
            candidates = [identity for identity in candidates if identity not in elsewhere]
        ours = list(tx.execute(select(t.manifests.c.id).where(t.manifests.c.id.in_(candidates))).scalars())
    for identity in ours:
        staging.delete(identity)
    return ours
