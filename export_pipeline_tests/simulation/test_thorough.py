"""What takes long: processes that die twice, and deaths and further preemptions beside another process."""

import pytest

from export_pipeline_tests.simulation.crashes import explore
from export_pipeline_tests.simulation.pairs import PAIRS, SMALL
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.scenarios import SCENARIOS
from export_pipeline_tests.simulation.schedules import (
    Schedules,
    at_random,
    one_death,
    one_preemption,
    race_all,
)

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("name", list(SCENARIOS)[::8])
def test_no_two_deaths_break_a_promise(empty: Stage, name: str) -> None:
    """Whatever two deaths follow on each other, all promises hold once the next runs are over."""
    explored = explore(SCENARIOS[name], empty.world, empty.begin, deaths=2)
    assert not explored.broken, "\n".join(map(str, explored.broken[:10]))


@pytest.mark.parametrize("schedules", [one_preemption, one_death, at_random(1)])
@pytest.mark.parametrize("name", PAIRS)
def test_no_schedule_breaks_a_promise(empty: Stage, name: str, schedules: Schedules) -> None:
    """Wherever one of two commands is stopped, or dies beside the other, all promises hold; also at random."""
    is_small = name in SMALL and schedules in (one_preemption, one_death)
    raced = race_all(PAIRS[name], empty, schedules, everywhere=is_small, most=None if is_small else 100)
    assert not raced.broken, "\n".join(map(str, raced.broken[:10]))
