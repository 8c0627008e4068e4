"""Whether a run could get on at once with what a subscriber is owed."""

from export_pipeline.ledger import manifests, owed
from export_pipeline.ledger.database import Ledger
from export_pipeline_tests.ledger.test_manifests import get, plan


def test_what_failed_to_be_read_is_no_reason_for_a_run(ledger: Ledger) -> None:
    """Only manifests without a failed reading start a run, however many failed ones are before them."""
    first, (crm,) = plan(ledger, "2026/11/23/a", "2026/11/23/b")
    with ledger.write() as tx:
        assert owed.gets_on(tx, crm)
        manifests.note_failure(tx, first, "403 Forbidden")
        assert not owed.gets_on(tx, crm)
    plan(ledger, "2026/11/23/c", "2026/11/23/d")
    with ledger.read() as tx:
        assert owed.gets_on(tx, crm)


def test_what_a_run_began_to_read_is_no_reason_for_another(ledger: Ledger) -> None:
    """A manifest whose reader died would end the next run as well; one that is being read has a run."""
    manifest_id, (crm,) = plan(ledger, "2026/11/23/a")
    with ledger.write() as tx:
        manifests.begin_reading(tx, manifest_id, "run-1")
        assert not owed.gets_on(tx, crm)
        manifests.end_reading(tx, manifest_id)
        assert owed.gets_on(tx, crm)


def test_a_noted_failure_counts_no_try(ledger: Ledger) -> None:
    """No file comes nearer to being given up by a failure that no file is to blame for."""
    manifest_id, _ = plan(ledger, "2026/11/23/a")
    with ledger.write() as tx:
        manifests.note_failure(tx, manifest_id, "403 Forbidden")
    assert get(ledger, manifest_id).read_attempts == 0


def test_a_file_that_is_tried_alone_fills_no_run(ledger: Ledger) -> None:
    """What runs try on top of their files neither is a reason for one nor hides one."""
    broken, (crm,) = plan(ledger, "2026/11/23/a")
    with ledger.write() as tx:
        manifests.count_failure(tx, broken, "truncated")
        assert not owed.gets_on(tx, crm)
    plan(ledger, "2026/11/23/b")
    with ledger.read() as tx:
        assert owed.gets_on(tx, crm)
