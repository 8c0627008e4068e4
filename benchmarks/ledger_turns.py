"""Ledgers of several sizes, measured in turns, tick by tick.

A virtual machine's speed changes by a third within minutes. Sizes that take turns meet the same machine, so that their
CPU times compare.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.ledger_counters import counting, server_cpu_seconds
from benchmarks.ledger_tick import MadeUpSource, tick
from export_pipeline.ledger.database import Ledger

_WARM_TICKS = 5


@dataclass
class Measured:
    """Medians over the ticks of one ledger.

    Attributes:
        work: what the database counted for a tick, by name.
        cpu_ms: of this process and the database's server together.
        cpu_ratio: to that of the first ledger in the same round of turns.
    """

    engine: str
    files: int
    megabytes: float
    fill_seconds: float
    work: dict[str, float] = field(default_factory=dict)
    cpu_ms: float = 0
    server_cpu_ms: float = 0
    cpu_ratio: float = 0
    wall_ms: float = 0
    fold: dict[str, float] = field(default_factory=dict)


@dataclass
class Filled:
    """A ledger with its files, open, and what was measured of it.

    Attributes:
        cursor: where the next tick lists from.
        size_bytes: tells how large the database is.
    """

    ledger: Ledger
    source: MadeUpSource
    cursor: str
    size_bytes: Callable[[], int]
    measured: Measured

    def tick(self) -> None:
        """One tick, of a run of its own."""
        self.cursor = tick(self.ledger, self.source, self.cursor, run_id=f"run-{self.source.added}")


@dataclass(frozen=True, slots=True)
class _Cost:
    cpu: float
    server_cpu: float
    wall: float


def measure(ledgers: Sequence[Filled], ticks: int) -> None:
    """Measure the ledgers of one engine into their ``measured``, each over so many ticks, and against the first.

    Counting instructions runs Python thousands of times a tick, so that CPU is measured afterwards, without it.
    """
    for one in ledgers:
        one.measured.work = _work(one, ticks)
        for _ in range(_WARM_TICKS):
            one.tick()
    costs: list[list[_Cost]] = [[] for _ in ledgers]
    for n in range(ticks):
        # Forth and back, so that none is always the one after the largest, which empties the processor's caches.
        for at in sorted(range(len(ledgers)), reverse=n % 2 == 1):
            costs[at].append(_cost(ledgers[at]))
    for one, mine in zip(ledgers, costs, strict=True):
        measured = one.measured
        measured.cpu_ms = _median_ms(cost.cpu for cost in mine)
        measured.server_cpu_ms = _median_ms(cost.server_cpu for cost in mine)
        measured.wall_ms = _median_ms(cost.wall for cost in mine)
        pairs = zip(mine, costs[0], strict=True)
        measured.cpu_ratio = round(statistics.median(cost.cpu / first.cpu for cost, first in pairs), 3)


def _work(one: Filled, ticks: int) -> dict[str, float]:
    for _ in range(_WARM_TICKS):
        one.tick()
    counted: list[dict[str, float]] = []
    with counting(one.ledger) as count:
        for _ in range(ticks):
            before = count()
            one.tick()
            after = count()
            counted.append({name: after[name] - before[name] for name in after})
    return {name: statistics.median(each[name] for each in counted) for name in counted[0]}


def _cost(one: Filled) -> _Cost:
    server_begun = server_cpu_seconds(one.ledger)
    wall_begun, cpu_begun = time.perf_counter(), time.process_time()
    one.tick()
    cpu, wall = time.process_time() - cpu_begun, time.perf_counter() - wall_begun
    server_cpu = server_cpu_seconds(one.ledger) - server_begun
    return _Cost(cpu + server_cpu, server_cpu, wall)


def _median_ms(seconds: Iterable[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 2)
