"""Every schedule with one preemption of thirty-one pairs of commands, on SQLite."""

import pytest

from export_pipeline_tests.simulation.pairs import OFTEN, PAIRS
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.schedules import one_preemption, race_all


@pytest.mark.parametrize("name", OFTEN)
def test_no_schedule_breaks_a_promise(empty: Stage, name: str) -> None:
    """Wherever one of two commands is stopped while the other runs to its end, all promises hold."""
    raced = race_all(PAIRS[name], empty, one_preemption)
    assert raced.schedules > 5
    assert not raced.broken, "\n".join(map(str, raced.broken[:10]))
