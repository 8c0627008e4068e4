"""A claim by which a run is known to be under way, whatever becomes of the database meanwhile."""

import pytest
from sqlalchemy import text

from export_pipeline.ledger import claims
from export_pipeline.ledger.claims import Claims, kept_at_work, someone_is_at_work
from export_pipeline.ledger.database import Ledger
from export_pipeline_tests.integration.waiting import wait_until

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


def break_connections(ledger: Ledger) -> None:
    """As when the database restarts: every connection but this one's ends, as soon as there is another one.

    A lock that was just seen may be that of a connection that is ending.
    """

    def some_ended() -> bool:
        with ledger.write() as tx:
            return bool(tx.execute(text(f"{OTHERS} AND datname = current_database()")).all())

    wait_until(some_ended)


def test_no_look_passes_a_renewed_claim_by(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever renews its claim is known to be at work at every moment, and no longer once it has ended."""
    monkeypatch.setattr(claims, "_RENEW_SECONDS", 0.2)
    with kept_at_work(lambda: ledger.claims, "run"):
        wait_until(lambda: someone_is_at_work(ledger.claims, "run"))
        assert all(someone_is_at_work(ledger.claims, "run") for _ in range(300))
    assert not someone_is_at_work(ledger.claims, "run")


def test_the_claim_comes_back(new_postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If connections break, or the ledger cannot be reached for a while, the lock is taken again."""
    monkeypatch.setattr(claims, "_RENEW_SECONDS", 0.05)
    ledger = Ledger(new_postgres)
    tries: list[int] = []

    def its_claims() -> Claims:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("no route to the ledger")
        return ledger.claims

    with kept_at_work(its_claims, "run"):
        for _ in range(3):
            wait_until(lambda: someone_is_at_work(ledger.claims, "run"))
            break_connections(ledger)
        wait_until(lambda: someone_is_at_work(ledger.claims, "run"))
    assert not someone_is_at_work(ledger.claims, "run")
    ledger.close()


def test_what_is_done_is_done(new_postgres: str) -> None:
    """A connection that breaks at the end of a claim gives it back, and takes nothing from what was done under it."""
    ledger = Ledger(new_postgres)
    with ledger.claims.claim("delivering") as mine:
        assert mine
        break_connections(ledger)
    with ledger.claims.claim("delivering") as mine:
        assert mine
    ledger.close()


def test_postgresql_soon_sees_that_a_machine_is_gone(new_postgres: str) -> None:
    """A connection is asked for a sign of life, so that a machine without power keeps its claims for 30 seconds."""
    ledger = Ledger(new_postgres)
    with ledger.read() as tx:
        found = [tx.execute(text(f"SHOW tcp_keepalives_{name}")).scalar() for name in ("idle", "interval", "count")]
    assert found == ["10", "5", "4"]
    ledger.close()
