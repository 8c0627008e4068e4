"""Time budgets of subscribers."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from export_pipeline.ledger import subscriptions
from export_pipeline.steps.stopping import Allowance
from export_pipeline_tests.steps.exporting import Export


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    made = Export(tmp_path, ledger_url)
    made.run()
    yield made
    made.ledger.close()


def test_a_budget_that_is_too_small_lets_one_batch_in(export: Export) -> None:
    """However long it takes to look, each run begins one batch, and none once its time is used; a new run may again."""
    with export.ledger.read() as tx:
        (crm,) = subscriptions.active(tx, 1)
    seconds = count()

    def clock() -> float:
        return float(next(seconds))

    for run_id in ("run-1", "run-2"):
        allowance = Allowance(export.ledger, crm, run_id=run_id, seconds=0.1, clock=clock)
        assert allowance.reason() == ""
        assert allowance.reason() == "crm has used its 0.1 s of this run"
        allowance.keep()
        again = Allowance(export.ledger, crm, run_id=run_id, seconds=0.1, clock=clock)
        assert again.reason() == "crm has used its 0.1 s of this run"
