"""Who is owed what. On SQLite and PostgreSQL."""

import pytest
from sqlalchemy import true, update

from export_pipeline.ledger import deliveries, manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Run
from export_pipeline_tests.ledger.test_manifests import DAY, NOW, file, plan


@pytest.mark.parametrize(
    ("origin", "missing"), [(manifests.SOURCE, 1), (manifests.QUARANTINE, 1), (manifests.REFUSED, 0)]
)
def test_only_refused_events_are_not_missing_to_others(ledger: Ledger, origin: str, missing: int) -> None:
    """A manifest of events that another subscriber refused is nothing that this one has never got; a stretch is."""
    _, (_, dwh) = plan(ledger, "2026/11/23/a", names=("crm", "dwh"))
    with ledger.write(durable=True) as tx:
        manifests.add(
            tx,
            "again",
            [file("retries/2026-11-23/x.ndjson")],
            source_id=1,
            day=DAY,
            max_events=10,
            max_bytes=1_000,
            run=Run("retry", NOW),
            origin=origin,
        )
        assert deliveries.owe_missing(tx, dwh.id, true(), now=NOW) == missing
        assert deliveries.owe_missing(tx, dwh.id, true(), now=NOW) == 0


def test_for_whom_a_manifest_was_waived(ledger: Ledger) -> None:
    """Subscribers whose start moved past a manifest are distinguished from those it is owed to."""
    manifest_id, (crm, dwh) = plan(ledger, "2026/11/23/a", names=("crm", "dwh"))
    with ledger.write() as tx:
        assert deliveries.waived_for(tx, manifest_id) == set()
        waived = update(t.deliveries).where(t.deliveries.c.subscription_id == dwh.id)
        tx.execute(waived.values(state=deliveries.WAIVED))
        assert deliveries.waived_for(tx, manifest_id) == {dwh.id}
        assert crm.id != dwh.id
