"""The short form of ``make chaos``."""

from pathlib import Path

from export_pipeline_tests.chaos.account import KILLED
from export_pipeline_tests.chaos.page import table
from export_pipeline_tests.chaos.suite import run_suite


def test_chaos_breaks_no_promise(tmp_path: Path) -> None:
    """Killed and hindered in every way, on both ledgers, runs lose nothing and repeat no more than they may."""
    account = run_suite(tmp_path, seed=7, seconds=600, rounds=5, dagster_every=0, most_campaigns=2)
    text = table(account, seed=7, seconds=600)
    assert account.broken == [], text
    assert sum(outcomes[KILLED] for outcomes in account.outcomes.values()) > 0, text
