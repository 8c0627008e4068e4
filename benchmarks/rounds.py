"""Repeats measurements and evaluates them."""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.measure import Cost

FOREIGN_CORES = 0.15
TRIES = 4
# The kernel counts in steps of 10 ms: below this, the work of other processes cannot be determined.
_SHORT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of several runs.

    Attributes:
        runs: how many.
        wall_seconds, cpu_seconds, peak_bytes: the median of each.
        wall_least, wall_most: seconds.
        foreign_cores: the most cores that other processes used in any of the runs.
    """

    runs: int
    wall_seconds: float
    wall_least: float
    wall_most: float
    cpu_seconds: float
    peak_bytes: float
    foreign_cores: float


def figures(costs: Sequence[Cost]) -> Figures:
    """The medians of *costs*."""
    walls = [cost.wall_seconds for cost in costs]
    return Figures(
        runs=len(costs),
        wall_seconds=statistics.median(walls),
        wall_least=min(walls),
        wall_most=max(walls),
        cpu_seconds=statistics.median(cost.cpu_seconds for cost in costs),
        peak_bytes=statistics.median(cost.peak_bytes for cost in costs),
        foreign_cores=max(cost.foreign_cores for cost in costs),
    )


def undisturbed(run: Callable[[], Cost], *, tries: int = TRIES) -> Cost:
    """*run*, repeated while others kept more than ``FOREIGN_CORES`` cores busy; returns the least disturbed one."""
    best = run()
    for _ in range(tries - 1):
        if best.foreign_cores <= FOREIGN_CORES or best.wall_seconds < _SHORT_SECONDS:
            break
        again = run()
        best = min(best, again, key=lambda cost: cost.foreign_cores)
    return best


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)
