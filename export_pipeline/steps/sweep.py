"""Keep staging small."""

from collections.abc import Set

from sqlalchemy import select

from export_pipeline.batching.staging import Staging
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger


def sweep_staging(staging: Staging, ledger: Ledger, *, keep: Set[str]) -> list[str]:
    """Remove staged manifests that this run does not deliver: they are read again when their turn comes.

    So staging holds what one run works on, however long a subscriber is down. Manifests that this ledger does not
    know belong to somebody else and are left alone. What abandoned claims left behind goes too.
    """
    ledger.claims.sweep()
    candidates = [identity for identity in staging.manifests() if identity not in keep]
    if not candidates:
        return []
    with ledger.read() as tx:
        ours = list(tx.execute(select(t.manifests.c.id).where(t.manifests.c.id.in_(candidates))).scalars())
    for identity in ours:
        staging.delete(identity)
    return ours
