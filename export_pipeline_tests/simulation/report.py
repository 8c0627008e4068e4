"""The long form: everything that CI tries and more, for as long as one likes; and the table of what came of it.

What CI tries comes first, then processes that die twice, then two preemptions and deaths beside another process, then
schedules at random until the time is over.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from export_pipeline_tests.simulation.crashes import Broken, explore
from export_pipeline_tests.simulation.pairs import PAIRS
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.scenarios import SCENARIOS
from export_pipeline_tests.simulation.schedules import (
    at_random,
    one_death,
    one_preemption,
    race_all,
    two_preemptions,
)

PAGE = Path("docs/reliability.md")
BEGIN, END = "<!-- simulation: begin (written by make simulate) -->", "<!-- simulation: end -->"
_AT_ONCE = 200


@dataclass
class Line:
    """One line of the table.

    Attributes:
        of: scenarios or pairs.
        tried: crash points or schedules.
        states: different states that were followed; of schedules, those that they ended in.
    """

    what: str
    of: int = 0
    tried: int = 0
    states: int = 0
    broken: list[Broken] = field(default_factory=list)


def simulate(stage: Stage, *, seconds: float, seed: int) -> Iterator[Line]:
    """Try one kind after the other, each as far as the time allows."""
    until = time.monotonic() + seconds
    for deaths, what in ((1, "one process dies, at every seam"), (2, "two die, at every pair of seams")):
        line = Line(what)
        for scenario in SCENARIOS.values():
            if time.monotonic() > until:
                break
            explored = explore(scenario, stage.world, stage.begin, deaths=deaths)
            line.of, line.tried = line.of + 1, line.tried + explored.points
            line.states, line.broken = line.states + explored.states, line.broken + explored.broken
        yield line
    yield from _races(stage, until, seed)


def _races(stage: Stage, until: float, seed: int) -> Iterator[Line]:
    kinds = {
        "two at once, one preemption": one_preemption,
        "two at once, one dies in the middle of the other": one_death,
        "two at once, two preemptions": two_preemptions,
    }
    for what, schedules in kinds.items():
        line = Line(what)
        for pair in PAIRS.values():
            if time.monotonic() > until:
                break
            _count(line, stage, pair.name, schedules)
        yield line
    line = Line("two at once, at random")
    while time.monotonic() < until:
        for number, pair in enumerate(PAIRS.values()):
            if time.monotonic() < until:
                _count(line, stage, pair.name, at_random(seed + number), most=_AT_ONCE)
        seed += len(PAIRS)
    line.of = min(line.of, len(PAIRS))
    yield line


def _count(line: Line, stage: Stage, name: str, schedules: object, most: int | None = None) -> None:
    raced = race_all(PAIRS[name], stage, schedules, most=most)  # type: ignore[arg-type]
    line.of, line.tried = line.of + 1, line.tried + raced.schedules
    line.states, line.broken = line.states + raced.endings, line.broken + raced.broken


def table(lines: list[Line], *, seconds: float, seed: int) -> str:
    """The lines as Markdown."""
    rows = [
        f"| {one.what} | {one.of:,} | {one.tried:,} | {one.states:,} | {len(one.broken):,} |" for one in lines if one.of
    ]
    head = f"{date.today().isoformat()}, seed {seed}, {seconds:,.0f} s of one core, SQLite."
    columns = "| what | scenarios or pairs | crash points or schedules | different states | promises broken |"
    return "\n".join([head, "", columns, "|---|---:|---:|---:|---:|", *rows])


def write(text: str, page: Path = PAGE) -> None:
    """Put *text* into the page, between its marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
