"""The long form: everything that CI tries and more, for as long as one likes; and the table of what came of it.

What CI tries and more, at every seam: crashes, then processes that die twice, then two commands at once.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

from export_pipeline_tests.simulation.crashes import Broken, Explored, explore
from export_pipeline_tests.simulation.pairs import PAIRS
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.scenarios import SCENARIOS
from export_pipeline_tests.simulation.schedules import (
    Pair,
    Raced,
    Schedule,
    Schedules,
    Stops,
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

    def add(self, found: Explored | Raced) -> None:
        """Count a scenario or a pair."""
        self.of += 1
        self.tried += found.points if isinstance(found, Explored) else found.schedules
        self.states += found.states if isinstance(found, Explored) else found.endings
        self.broken += found.broken


def simulate(stage: Stage, *, seconds: float, seed: int) -> Iterator[Line]:
    """Try one kind after the other, each for an equal share of the time that is left; in an order drawn by *seed*."""
    end = time.monotonic() + seconds
    scenarios = [one for one in SCENARIOS.values() if all(map(find_spec, one.needs))]
    pairs = list(PAIRS.values())
    until = end

    def race(pair: Pair, schedules: Schedules, **how: Any) -> Raced:
        def in_time(stops: Stops) -> Iterator[Schedule]:
            return takewhile(lambda _: time.monotonic() < until, schedules(stops))

        return race_all(pair, stage, in_time, **how)

    kinds: list[tuple[str, Sequence[Any], Callable[[Any], Explored | Raced]]] = [
        ("one process dies", scenarios, lambda one: explore(one, stage.world, stage.begin)),
        ("two die", scenarios, lambda one: explore(one, stage.world, stage.begin, deaths=2)),
        ("two at once, one preemption", pairs, lambda one: race(one, one_preemption, everywhere=True)),
        ("two at once, one dies during the other", pairs, lambda one: race(one, one_death)),
        ("two at once, two preemptions", pairs, lambda one: race(one, two_preemptions, most=_AT_ONCE)),
        ("two at once, at random", pairs, lambda one: race(one, at_random(seed), most=_AT_ONCE)),
    ]
    chance = random.Random(seed)
    for number, (what, some, attempt) in enumerate(kinds):
        line = Line(what)
        until = time.monotonic() + (end - time.monotonic()) / (len(kinds) - number)
        for one in chance.sample(some, len(some)):
            if time.monotonic() > until:
                break
            line.add(attempt(one))
        yield line


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
