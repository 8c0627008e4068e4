"""Two commands at once, each pair behind a story that gives both something to do."""

from functools import partial
from itertools import combinations_with_replacement

from export_pipeline_tests.simulation import commands
from export_pipeline_tests.simulation import story as s
from export_pipeline_tests.simulation.commands import Command
from export_pipeline_tests.simulation.schedules import Pair
from export_pipeline_tests.simulation.story import Scenario, Step
from export_pipeline_tests.simulation.world import World

RUN, NEWCOMER, BACKFILL, REPLAY, RETRY, DISMISS, FOLD, LOSS = (
    "run",
    "a newcomer's run",
    "backfill missing",
    "replay",
    "retry",
    "dismiss",
    "fold",
    "a run after a loss",
)


def newcomer(world: World) -> None:
    """A run of a deployment file with one subscriber more."""
    world.outside.subscribers["c"] = "beginning"
    commands.run(world)


def after_a_loss(world: World) -> None:
    """A run that finds staging empty, and a file gone that an earlier run has planned."""
    world.remove("2026/11/22/a")
    world.wipe("staging")
    commands.run(world)


COMMANDS: dict[str, Command] = {
    RUN: commands.run,
    NEWCOMER: newcomer,
    BACKFILL: partial(commands.backfill, day="2026-11-22"),
    REPLAY: partial(commands.backfill, day="2026-11-22", again=True),
    RETRY: commands.retry,
    DISMISS: commands.dismiss,
    FOLD: commands.fold,
    LOSS: after_a_loss,
}

_ALONE = s.subscribers(a=None)
_REFUSED = (s.answers("a", refuses="index"), s.put("22/a", 2, marked=1), s.run, s.answers("a"))
_CORRUPT = (s.rules(max_attempts=1), s.put("22/a", 1), s.put("22/b", corrupt=True))
STORIES: dict[str, tuple[Step, ...]] = {
    "a new file": (_ALONE, s.put("22/a", 1)),
    "a lost answer": (_ALONE, s.answers("a", loses=1), s.put("22/a", 3), s.run),
    "delivered": (_ALONE, s.put("22/a", 1), s.run),
    "refused": (_ALONE, *_REFUSED),
    "corrupt": (_ALONE, *_CORRUPT),
    "planned and corrupt": (_ALONE, *_CORRUPT, s.plan),
    "given up": (_ALONE, *_CORRUPT, s.run, s.put("22/b", 1)),
    "old": (_ALONE, s.rules(keep_days=2), s.put("22/a", 1), s.run, s.days_pass(10)),
    "old and refused": (_ALONE, s.rules(keep_days=2), *_REFUSED, s.days_pass(10)),
    "two files": (s.put("22/a", 1), s.put("22/b", 1)),
    # Half delivered: b was down. One event refused, one file corrupt, one new.
    "in the middle": (
        s.answers("a", refuses="index"),
        s.answers("b", is_down=True),
        s.put("22/a", 2, marked=1),
        s.put("22/b", corrupt=True),
        s.run,
        s.answers("a"),
        s.answers("b"),
        s.put("22/c", 1, garbage=1),
    ),
    "long ago": (s.rules(keep_days=2), s.put("22/a", 1), s.put("22/b", 1), s.run, s.days_pass(10), s.put("23/c", 1)),
}
_OF_TESTS: dict[tuple[str, str], tuple[str, ...]] = {
    (RUN, RUN): ("a new file", "a lost answer", "corrupt"),
    (RUN, NEWCOMER): ("a new file", "delivered", "planned and corrupt"),
    (RUN, BACKFILL): ("a new file",),
    (RUN, REPLAY): ("a new file", "delivered"),
    (RUN, RETRY): ("refused", "given up"),
    (RUN, FOLD): ("old",),
    (RUN, LOSS): ("two files",),
    (NEWCOMER, NEWCOMER): ("delivered",),
    (NEWCOMER, BACKFILL): ("delivered",),
    (NEWCOMER, REPLAY): ("delivered",),
    (NEWCOMER, RETRY): ("refused", "given up"),
    (NEWCOMER, FOLD): ("old",),
    (BACKFILL, BACKFILL): ("a new file",),
    (BACKFILL, REPLAY): ("delivered",),
    (BACKFILL, RETRY): ("refused",),
    (BACKFILL, FOLD): ("old",),
    (REPLAY, REPLAY): ("delivered",),
    (REPLAY, RETRY): ("refused",),
    (REPLAY, FOLD): ("old",),
    (RETRY, RETRY): ("refused", "given up"),
    (REPLAY, DISMISS): ("refused",),
    (RETRY, DISMISS): ("refused", "given up"),
    (RETRY, FOLD): ("old and refused",),
    (FOLD, FOLD): ("old",),
}

PAIRS: dict[str, Pair] = {}


def _pair(first: str, second: str, story: str) -> str:
    name = f"{first} beside {second}, {story}"
    PAIRS[name] = Pair(name, Scenario(story, STORIES[story]), (COMMANDS[first], COMMANDS[second]))
    return name


SMALL = [_pair(*two, story) for two, stories in _OF_TESTS.items() for story in stories]
"""Pairs behind the smallest story that serves."""

_LONG = (f"{RUN} beside {NEWCOMER}, planned and corrupt", f"{NEWCOMER} beside {RETRY}, given up")

OFTEN = [name for name in SMALL if name not in _LONG]
"""What each test run tries on SQLite; the two long ones are tried there on PostgreSQL."""

SELDOM = [
    _pair(first, second, story)
    for first, second in combinations_with_replacement([name for name in COMMANDS if name != LOSS], 2)
    for story in ("in the middle", "long ago")
]
"""The same behind longer ones: tried at night."""

ON_POSTGRESQL = [
    f"{RUN} beside {NEWCOMER}, planned and corrupt",
    f"{RUN} beside {REPLAY}, delivered",
    f"{REPLAY} beside {REPLAY}, delivered",
    f"{NEWCOMER} beside {RETRY}, given up",
]
"""Where two transactions may be under way at once."""
