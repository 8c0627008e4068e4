"""Every single crash of every scenario."""

import pytest

from export_pipeline_tests.simulation.crashes import explore
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.scenarios import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_crash_breaks_a_promise(empty: Stage, name: str) -> None:
    """Wherever a process of the scenario dies, all promises hold once the next runs are over."""
    for module in SCENARIOS[name].needs:
        pytest.importorskip(module)
    explored = explore(SCENARIOS[name], empty.world, empty.begin)
    assert explored.points > 5
    assert not explored.broken, "\n".join(map(str, explored.broken[:10]))
