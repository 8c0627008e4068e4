"""Every crash: a scenario's processes die at each of their seams, one by one, and life goes on from what they left.

At a seam all that a SIGKILL would leave is saved. From each such state the search goes on with the scenario's next step
(a run is followed by the next run, a command that a person gave is given again), and may die once more. States that are
the same but for times and names of runs are followed once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from export_pipeline_tests.simulation.seams import Seam, watching
from export_pipeline_tests.simulation.story import Scenario, Step
from export_pipeline_tests.simulation.truths import broken_promises, calm, settle, staged_for_nobody
from export_pipeline_tests.simulation.world import Saved, World


class Death(NamedTuple):
    """A process dies: the one of the scenario's so-many-th step, from 1 on, at its so-many-th seam.

    Attributes:
        is_forgotten: a person who had given the command does not give it again.
    """

    step: int
    seam: int
    what: str
    is_forgotten: bool = False

    def __str__(self) -> str:
        step, _, seam = self.what.partition(": ")
        dies = "dies for good" if self.is_forgotten else "dies"
        return f"step {self.step} ({step}) {dies} at seam {self.seam}: {seam}"


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
    followed = Followed()
    todo: list[tuple[int, Saved, tuple[Death, ...]]] = [(0, begin, ())]
    while todo and len(explored.broken) < enough:
        at, saved, died = todo.pop()
        if not followed.is_new(at, saved, len(died)):
            continue
        world.restore(saved)
        if at == len(scenario.steps):
            calm(world)
            if followed.is_new(at + 1, world.save(), len(died)):
                explored.endings += 1
                explored.broken += [Broken(scenario.name, died, one) for one in _judge(scenario, world, died)]
            continue
        step = scenario.steps[at]
        if step.is_command and len(died) < deaths:
            for death, left in deaths_of(world, step, at + 1):
                explored.points += 1
                if step.is_repeated:
                    todo.append((at, left, (*died, death)))
                if not step.is_repeated or step.may_be_forgotten:
                    todo.append((at + 1, left, (*died, death._replace(is_forgotten=step.is_repeated))))
        else:
            step.act(world)
        if step.is_command:
            wrong = world.surprises + (staged_for_nobody(world) if step.is_job else [])
            explored.broken += [Broken(scenario.name, died, one) for one in wrong]
        todo.append((at + 1, world.save(), died))
    explored.states = followed.states
    return explored


class Followed:
    """The states that were gone on from."""

    def __init__(self) -> None:
        self.states = 0
        self._found: dict[tuple[int, bytes], list[tuple[int, int]]] = {}

    def is_new(self, step: int, saved: Saved, deaths: int) -> bool:
        """Whether nobody went on from it with as many deaths to come, and judged as strictly; from now on, somebody."""
        known = self._found.setdefault((step, saved.digest), [])
        if any(died <= deaths and slack <= saved.slack for died, slack in known):
            return False
        known.append((deaths, saved.slack))
        self.states += 1
        return True


def replay(scenario: Scenario, world: World, begin: Saved, deaths: Iterable[Death]) -> list[str]:
    """What breaks where a scenario's processes die at exactly these moments."""
    coming = list(deaths)
    world.restore(begin)
    at, wrong = 0, []
    while at < len(scenario.steps):
        step = scenario.steps[at]
        if coming and coming[0].step == at + 1:
            death = coming.pop(0)
            left = next(left for found, left in deaths_of(world, step, at + 1) if found.seam == death.seam)
            world.restore(left)
            at += death.is_forgotten or not step.is_repeated
        else:
            step.act(world)
            at += 1
            if step.is_job:
                wrong += staged_for_nobody(world)
    calm(world)
    return wrong + _judge(scenario, world, tuple(deaths))


def _judge(scenario: Scenario, world: World, died: tuple[Death, ...]) -> list[str]:
    ending = settle(world)
    broken = broken_promises(world, ending)
    return broken if died else broken + scenario.differs(ending, world.outside)


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
