"""What takes long: processes that die twice, and deaths and further preemptions beside another process."""

import pytest

from export_pipeline_tests.simulation.crashes import explore
from export_pipeline_tests.simulation.pairs import OFTEN, PAIRS
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.scenarios import SCENARIOS
from export_pipeline_tests.simulation.schedules import at_random, one_death, one_preemption, race_all

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("name", list(SCENARIOS)[::8])
def test_no_two_deaths_break_a_promise(empty: Stage, name: str) -> None:
    """Whatever two deaths follow on each other, all promises hold once the next runs are over."""
    explored = explore(SCENARIOS[name], empty.world, empty.begin, deaths=2)
    assert not explored.broken, "\n".join(map(str, explored.broken[:10]))


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in OFTEN])
def test_no_preemption_breaks_a_promise(empty: Stage, name: str) -> None:
    """Wherever one of two commands is stopped while the other runs to its end, all promises hold."""
    raced = race_all(PAIRS[name], empty, one_preemption)
    assert not raced.broken, "\n".join(map(str, raced.broken[:10]))


@pytest.mark.parametrize("name", list(PAIRS))
def test_no_death_beside_another_process_breaks_a_promise(empty: Stage, name: str) -> None:
    """Wherever one dies while the other is in the middle of its work, all promises hold."""
    raced = race_all(PAIRS[name], empty, one_death)
    assert not raced.broken, "\n".join(map(str, raced.broken[:10]))


@pytest.mark.parametrize("name", list(PAIRS))
def test_no_schedule_at_random_breaks_a_promise(empty: Stage, name: str) -> None:
    """Nor does one of a hundred schedules with up to six preemptions."""
    raced = race_all(PAIRS[name], empty, at_random(1), most=100)
    assert not raced.broken, "\n".join(map(str, raced.broken[:10]))
