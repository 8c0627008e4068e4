"""Every schedule with one preemption of four pairs on PostgreSQL, where both may be in the middle of a transaction."""

import pytest

from export_pipeline_tests.simulation.pairs import ON_POSTGRESQL, PAIRS
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.schedules import one_preemption, race_all


@pytest.mark.parametrize("name", ON_POSTGRESQL)
def test_no_schedule_breaks_a_promise(empty_postgres: Stage, name: str) -> None:
    """Wherever one of two commands is stopped, also between two statements of a transaction, all promises hold."""
    raced = race_all(PAIRS[name], empty_postgres, one_preemption)
    assert raced.schedules > 5
    assert not raced.broken, "\n".join(map(str, raced.broken[:10]))
