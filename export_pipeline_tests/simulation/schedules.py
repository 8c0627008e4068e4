"""Two processes at once: threads of which one has the baton, and gives it away only at a seam, as a schedule says.

SQLite's one lock for writing is modelled: who would wait for it gives the baton away. On PostgreSQL each statement is a
seam, and the server is asked whether the one that has the baton waits for another. Where a process waits for a claim it
would sleep, and the other goes on.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

from export_pipeline_tests.simulation.commands import Command
from export_pipeline_tests.simulation.crashes import Broken
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.seams import (
    ANSWER,
    CALL,
    COMMIT,
    END,
    ROLLBACK,
    STATEMENT,
    TAKEN,
    WRITE,
    Killed,
    Seam,
    watching,
)
from export_pipeline_tests.simulation.story import Scenario
from export_pipeline_tests.simulation.truths import broken_promises, calm, settle
from export_pipeline_tests.simulation.world import Saved, World

_LOOK_SECONDS = 0.02
_MOST_WAITS = 3_000
ENDLESS = 1_000_000


class Schedule(NamedTuple):
    """Who goes on when.

    Attributes:
        stops: process and seam, in turn: it runs up to this seam, then the other goes on. After the last of them each
            runs to its end.
        dies: the process that is killed, and at which of its seams; None: nobody.
    """

    stops: tuple[tuple[int, int], ...]
    dies: tuple[int, int] | None = None

    def __str__(self) -> str:
        stops = [
            f"{'AB'[who]} stops at its seam {at}" if at < ENDLESS else f"{'AB'[who]} goes first"
            for who, at in self.stops
        ]
        return "; ".join([*stops, *([f"{'AB'[self.dies[0]]} dies at its seam {self.dies[1]}"] if self.dies else [])])


class Race:
    """Two commands at once.

    Args:
        waits: whether the server keeps the backend of this number waiting for another; None: SQLite.

    Attributes:
        seams: how many each of the two passed.
        passed: which these were.
        trace: what each was about to do, in order.
    """

    def __init__(
        self, world: World, pair: Sequence[Command], schedule: Schedule, waits: Callable[[int], bool] | None = None
    ) -> None:
        self.seams: Counter[int] = Counter()
        self.passed: tuple[list[Seam], list[Seam]] = ([], [])
        self.trace: list[str] = []
        self._world = world
        self._pair = pair
        self._stops = list(schedule.stops)
        self._dies = schedule.dies
        self._waits = waits
        self._turns = [threading.Semaphore(0), threading.Semaphore(0)]
        self._moved = threading.Event()
        self._ended: set[int] = set()
        self._dead: set[int] = set()
        self._blocked: set[int] = set()
        self._holder = schedule.stops[0][0]
        self._writer: int | None = None
        self._backend: dict[int, int] = {}
        self._idle = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        """Let both run to their ends."""
        threads = [threading.Thread(target=self._live, args=(me,), daemon=True) for me in (0, 1)]
        for thread in threads:
            thread.start()
        self._turns[self._holder].release()
        while len(self._ended) < 2:
            is_moving = self._moved.wait(_LOOK_SECONDS if self._waits else None)
            self._moved.clear()
            if not is_moving:
                self._pass_by_who_waits()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _live(self, me: int) -> None:
        self._turns[me].acquire()
        try:
            with watching(str(self._world.root), partial(self._at, me), sleep=partial(self._wait, me)):
                self._pair[me](self._world)
        except Killed:
            self._world.outside.crashes += 1
        except BaseException as error:  # noqa: BLE001 (it is raised by run)
            self._error = error
        if self._writer == me:
            self._writer = None
        self._ended.add(me)
        self._hand_over(me)
        self._moved.set()

    def _at(self, me: int, seam: Seam) -> None:
        """*me* has come to a seam, and goes on where this returns."""
        self._moved.set()
        if seam.kind == ANSWER:
            self._come_back(me)
            return
        if me in self._dead:
            raise Killed
        self._idle = 0
        if seam.kind == END or seam.label.startswith("/bucket"):
            return  # nothing that the other does makes a difference between here and the next seam
        self.seams[me] += 1
        self.passed[me].append(seam)
        self.trace.append(f"{'AB'[me]} {self.seams[me]}: {seam}")
        if self._dies == (me, self.seams[me]):
            self._dead.add(me)
            raise Killed
        if self._stops and self._stops[0] == (me, self.seams[me]):
            self._stops.pop(0)
            self._hand_over(me)
            self._turns[me].acquire()
        if seam.kind == STATEMENT:
            self._backend[me] = int(seam.label.partition(" ")[0])
        elif self._waits is None and seam.kind == WRITE:
            while self._writer not in (None, me):
                self._wait(me)
            self._writer = me
        elif seam.kind in (COMMIT, ROLLBACK) and self._writer == me:
            self._writer = None

    def _wait(self, me: int) -> None:
        """*me* can do nothing before the other has done something."""
        self._idle += 1
        if me in self._dead:
            raise Killed
        if self._idle > _MOST_WAITS:
            raise AssertionError(f"both wait for each other: {self.trace[-6:]}")
        if self._other(me) is not None:
            self._hand_over(me)
            self._turns[me].acquire()

    def _other(self, me: int) -> int | None:
        other = 1 - me
        return None if other in self._ended or other in self._blocked else other

    def _hand_over(self, me: int) -> None:
        other = self._other(me)
        self._holder = me if other is None and me not in self._ended else 1 - me
        if self._holder not in self._ended and self._holder not in self._blocked:
            self._turns[self._holder].release()

    def _pass_by_who_waits(self) -> None:
        """The one that has the baton does nothing: where the server keeps it waiting, the other goes on."""
        me, other = self._holder, 1 - self._holder
        if me in self._ended or me in self._blocked or me not in self._backend or other in self._ended:
            return
        if self._waits is not None and self._waits(self._backend[me]):
            self._blocked.add(me)
            self._holder = other
            self._turns[other].release()

    def _come_back(self, me: int) -> None:
        """The server has answered; who had to wait for that waits for the baton, too."""
        if me in self._blocked:
            self._blocked.discard(me)
            if 1 - me not in self._ended:
                self._turns[me].acquire()
            self._holder = me


@dataclass
class Raced:
    """What the schedules of a pair came to.

    Attributes:
        schedules: how many were tried.
        endings: different states after them.
    """

    schedules: int = 0
    endings: int = 0
    broken: list[Broken] = field(default_factory=list)


@dataclass
class Ends:
    """States that schedules have come to: digest and slack, of :class:`Saved`.

    Attributes:
        at_once: when both processes had ended.
        calm: when the next run had, too.
    """

    at_once: set[tuple[bytes, int]] = field(default_factory=set)
    calm: set[tuple[bytes, int]] = field(default_factory=set)


@dataclass(frozen=True)
class Pair:
    """Two commands at once, behind a story."""

    name: str
    before: Scenario
    commands: tuple[Command, Command]


Stops = tuple[list[int], list[int]]
"""The seams, by their numbers, at which each of two processes may be stopped."""

Schedules = Callable[[Stops], Iterator[Schedule]]


def race_all(
    pair: Pair,
    stage: Stage,
    schedules: Schedules,
    *,
    everywhere: bool = False,
    most: int | None = None,
    enough: int = 100,
) -> Raced:
    """Try the *schedules*, given where each of the two may be stopped when it goes first.

    Args:
        everywhere: on SQLite, also at seams before which the process has done nothing that the other could see.
        most: so many schedules at most; None: all.
        enough: ends when so much is broken.
    """
    world = stage.world
    start = begin(pair, stage)
    raced = Raced()
    ends = Ends()
    stops: Stops = ([], [])
    for first in (0, 1):
        world.restore(start)
        race = Race(world, pair.commands, Schedule(((first, ENDLESS),)), stage.waits)
        race.run()
        seen = _seen_on_postgres if stage.waits is not None else _seen_on_sqlite
        stops[first].extend(_anywhere(race.passed[first]) if everywhere else seen(race.passed[first]))
    for schedule in islice(schedules(stops), most):
        if len(raced.broken) >= enough:
            break
        raced.schedules += 1
        broken = race_once(pair, stage, start, schedule, ends=ends)
        raced.broken += [Broken(f"{pair.name} [{schedule}]", (), one) for one in broken]
    raced.endings = len(ends.at_once)
    return raced


def _anywhere(passed: Sequence[Seam]) -> Iterator[int]:
    yield from range(1, len(passed) + 1)


def _seen_on_sqlite(passed: Sequence[Seam]) -> Iterator[int]:
    """Not before a commit, whose effects others see behind it; of a batch, only before it is recorded as accepted; of a
    file that is written under another name first, only before it gets its own.
    """
    hidden = (COMMIT, CALL, TAKEN, "write", "mkdir")
    yield from (number for number, seam in enumerate(passed, start=1) if seam.kind not in hidden)


def _seen_on_postgres(passed: Sequence[Seam]) -> Iterator[int]:
    """Where the process is in the middle of a transaction: what it has read, it has not acted on yet; what it has
    written, nobody sees, and some have to wait for it. All else is tried on SQLite.
    """
    has_written = False
    for number, seam in enumerate(passed, start=1):
        writes = seam.label.partition(" ")[2].startswith(("INSERT", "UPDATE", "DELETE"))
        if seam.kind == COMMIT or (writes and not has_written):
            yield number
        has_written = seam.kind != COMMIT and (has_written or writes)


def begin(pair: Pair, stage: Stage) -> Saved:
    """How the world is when both begin."""
    stage.world.restore(stage.begin)
    for step in pair.before.steps:
        step.act(stage.world)
    return stage.world.save()


def race_once(
    pair: Pair,
    stage: Stage,
    start: Saved,
    schedule: Schedule,
    *,
    ends: Ends | None = None,
    trace: list[str] | None = None,
) -> list[str]:
    """What breaks under one schedule; nothing where it comes to one of these *ends*.

    Args:
        trace: gets what each was about to do, in order.
    """
    world = stage.world
    world.restore(start)
    race = Race(world, pair.commands, schedule, stage.waits)
    race.run()
    if trace is not None:
        trace += race.trace
    if _was_reached(world, None if ends is None else ends.at_once):
        return []
    calm(world)
    if _was_reached(world, None if ends is None else ends.calm):
        return []
    ending = settle(world)
    return broken_promises(world, ending)


def _was_reached(world: World, ends: set[tuple[bytes, int]] | None) -> bool:
    """Whether the world is in one of these states, of which it is from now on."""
    if world.surprises or ends is None:
        return False
    saved = world.save()
    is_known = (saved.digest, saved.slack) in ends
    ends.add((saved.digest, saved.slack))
    return is_known


def one_preemption(stops: Stops) -> Iterator[Schedule]:
    """Each goes first, and is stopped at each of its seams, or at none, while the other runs to its end."""
    for first in (0, 1):
        yield from (Schedule(((first, at),)) for at in [*(at for at in stops[first] if at > 1), ENDLESS])


def one_death(stops: Stops) -> Iterator[Schedule]:
    """One goes half its way, then the other runs and dies at each of its seams, then the first goes on."""
    for first in (0, 1):
        for at in stops[1 - first]:
            yield Schedule(((first, max(2, len(stops[first]) // 2)),), dies=(1 - first, at))


def two_preemptions(stops: Stops) -> Iterator[Schedule]:
    """Each goes first, is stopped once, and goes on once the other has been stopped; in an order that mixes them."""
    found = [
        Schedule(((first, at), (1 - first, other)))
        for first in (0, 1)
        for at in stops[first]
        for other in stops[1 - first]
    ]
    yield from random.Random(0).sample(found, len(found))


def at_random(seed: int) -> Schedules:
    """Schedules with two to six preemptions, and now and then a death, without end."""
    chance = random.Random(seed)

    def schedules(stops: Stops) -> Iterator[Schedule]:
        while True:
            who, chosen, at = chance.randint(0, 1), [], [1, 1]
            for _ in range(chance.randint(2, 6)):
                at[who] += chance.randint(1, max(2, len(stops[who]) // 2))
                chosen.append((who, at[who]))
                who = 1 - who
            victim = chance.randint(0, 1)
            dies = (victim, chance.choice(stops[victim])) if stops[victim] and chance.random() < 0.4 else None
            yield Schedule(tuple(chosen), dies)

    return schedules
