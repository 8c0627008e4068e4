"""Measures ledgers of several sizes in turns, tick by tick.

The speed of a virtual machine changes by a third within minutes. Sizes that take turns run on the same machine state,
so that their CPU times are comparable.
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
        work: what the database counted per tick, by name.
        cpu_ms: of this process and the database's server together.
        cpu_ratio: relative to the first ledger in the same round.
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
    """An open ledger with its files, and its measurements.

    Attributes:
        cursor: where the next tick lists from.
        size_bytes: returns the size of the database.
    """

    ledger: Ledger
    source: MadeUpSource
    cursor: str
    size_bytes: Callable[[], int]
    measured: Measured

    def tick(self) -> None:
        """One tick, as a separate run."""
        self.cursor = tick(self.ledger, self.source, self.cursor, run_id=f"run-{self.source.added}")


@dataclass(frozen=True, slots=True)
class _Cost:
    cpu: float
    server_cpu: float
    wall: float


def measure(ledgers: Sequence[Filled], ticks: int) -> None:
    """Measure the ledgers of one engine into their ``measured``, each over *ticks* ticks, relative to the first.

    Counting instructions calls Python thousands of times a tick, so CPU is measured afterwards, without counting.
    """
    for one in ledgers:
        one.measured.work = _work(one, ticks)
        for _ in range(_WARM_TICKS):
            one.tick()
    costs: list[list[_Cost]] = [[] for _ in ledgers]
    for n in range(ticks):
        # Back and forth, so that none always follows the largest, which evicts everything from the processor's caches.
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
