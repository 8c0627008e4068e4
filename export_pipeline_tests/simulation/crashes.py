"""Every crash: a scenario's processes die at each of their seams, one by one, and life goes on from what they left.

At a seam all that a SIGKILL would leave is saved. From each such state the search goes on with the scenario's next step
(a run is followed by the next run, a command that a person gave is given again), and may die once more. States that are
the same but for times and names of runs are followed once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from export_pipeline_tests.simulation.scenarios import Scenario, Step
from export_pipeline_tests.simulation.seams import Seam, watching
from export_pipeline_tests.simulation.truths import Ending, broken_promises, settle
from export_pipeline_tests.simulation.world import Saved, World


class Death(NamedTuple):
    """A process dies: the one of the scenario's so-many-th step, from 1 on, at its so-many-th seam."""

    step: int
    seam: int
    what: str

    def __str__(self) -> str:
        step, _, seam = self.what.partition(": ")
        return f"step {self.step} ({step}) dies at seam {self.seam}: {seam}"


class Broken(NamedTuple):
    """A promise that was not kept, and how to see that again."""

    scenario: str
    deaths: tuple[Death, ...]
    promise: str

    def __str__(self) -> str:
        return f"{self.scenario}: {'; '.join(map(str, self.deaths)) or 'no death'}: {self.promise}"


@dataclass
class Explored:
    """What an exploration came to.

    Attributes:
        points: moments at which a process died.
        states: different states that were followed.
        endings: different states at the end.
        broken: promises that were not kept.
    """

    points: int = 0
    states: int = 0
    endings: int = 0
    broken: list[Broken] = field(default_factory=list)


def explore(scenario: Scenario, world: World, begin: Saved, *, deaths: int = 1, enough: int = 100) -> Explored:
    """Let a scenario's processes die wherever they can, *deaths* times at most, until *enough* is broken."""
    explored = Explored()
    seen: set[tuple[int, int, bytes]] = set()
    todo: list[tuple[int, Saved, tuple[Death, ...]]] = [(0, begin, ())]
    while todo and len(explored.broken) < enough:
        at, saved, died = todo.pop()
        world.restore(saved)
        key = (at, len(died), world.fingerprint())
        if key in seen:
            continue
        seen.add(key)
        if at == len(scenario.steps):
            explored.endings += 1
            explored.broken += [Broken(scenario.name, died, one) for one in _end(scenario, world, died)]
            continue
        step = scenario.steps[at]
        if step.is_command and len(died) < deaths:
            for death, left in deaths_of(world, step, at + 1):
                explored.points += 1
                if step.is_repeated:
                    todo.append((at, left, (*died, death)))
                if not step.is_repeated or step.may_be_forgotten:
                    todo.append((at + 1, left, (*died, death)))
        else:
            step.act(world)
        todo.append((at + 1, world.save(), died))
    explored.states = len(seen)
    return explored


def replay(scenario: Scenario, world: World, begin: Saved, deaths: Iterable[Death]) -> list[str]:
    """What breaks where a scenario's processes die at exactly these moments."""
    coming = list(deaths)
    world.restore(begin)
    at = 0
    while at < len(scenario.steps):
        step = scenario.steps[at]
        if coming and coming[0].step == at + 1:
            death = coming.pop(0)
            left = next(left for found, left in deaths_of(world, step, at + 1) if found.seam == death.seam)
            world.restore(left)
            at += not step.is_repeated
        else:
            step.act(world)
            at += 1
    return _end(scenario, world, tuple(deaths))


def _end(scenario: Scenario, world: World, died: tuple[Death, ...]) -> list[str]:
    surprises = list(world.surprises)
    ending: Ending = settle(world)
    world.surprises += surprises
    broken = broken_promises(world, ending)
    if not died and scenario.shows is not None and not scenario.shows(ending, world.outside):
        broken.append("the scenario did not do what its name says")
    return broken


def deaths_of(world: World, step: Step, number: int) -> Iterator[tuple[Death, Saved]]:
    """Let *step* happen, and give what its death would have left at each seam behind an effect."""
    found: list[tuple[Death, Saved]] = []
    seams = 0
    is_changed = True

    def look(seam: Seam) -> None:
        nonlocal seams, is_changed
        seams += 1
        if is_changed:
            world.outside.crashes += 1
            found.append((Death(number, seams, f"{step.name}: {seam}"), world.save()))
            world.outside.crashes -= 1
        is_changed = seam.is_effect

    with watching(str(world.root), look):
        step.act(world)
    return iter(found)
