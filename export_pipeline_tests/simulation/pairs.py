"""Every pair of two commands at once, each behind a story that gives both something to do."""

from functools import partial
from itertools import combinations_with_replacement

from export_pipeline_tests.simulation import commands
from export_pipeline_tests.simulation import scenarios as s
from export_pipeline_tests.simulation.commands import Command
from export_pipeline_tests.simulation.scenarios import Scenario, Step
from export_pipeline_tests.simulation.schedules import Pair
from export_pipeline_tests.simulation.world import World


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
    "run": commands.run,
    "a newcomer's run": newcomer,
    "backfill missing": partial(commands.backfill, day="2026-11-22"),
    "replay": partial(commands.backfill, day="2026-11-22", again=True),
    "retry": commands.retry,
    "fold": commands.fold,
    "a run after a loss": after_a_loss,
}

STORIES: dict[str, tuple[Step, ...]] = {
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
    "one file": (s.put("22/a", 1), s.run),
    "a corrupt file": (s.rules(max_attempts=1), s.put("22/a", 1), s.put("22/b", corrupt=True)),
    "two files, one run": (s.put("22/a", 1), s.put("22/b", 1)),
    "long ago": (s.rules(keep_days=2), s.put("22/a", 1), s.put("22/b", 1), s.run, s.days_pass(10), s.put("23/c", 1)),
}

PAIRS: dict[str, Pair] = {}


def _pair(first: str, second: str, story: str) -> None:
    name = f"{first} beside {second}, {story}"
    PAIRS[name] = Pair(name, Scenario(story, STORIES[story]), (COMMANDS[first], COMMANDS[second]))


for _first, _second in combinations_with_replacement([name for name in COMMANDS if name != "a run after a loss"], 2):
    _pair(_first, _second, "in the middle")
    _pair(_first, _second, "long ago")
_pair("run", "a run after a loss", "two files, one run")
for _first, _second, _story in (
    ("run", "a newcomer's run", "a corrupt file"),
    ("run", "replay", "one file"),
    ("replay", "replay", "one file"),
    ("retry", "a newcomer's run", "a corrupt file"),
):
    _pair(_first, _second, _story)

# Those that the tests try each time: thirty. The others are tried at night, and by make simulate.
OFTEN = [name for name in PAIRS if name.endswith("in the middle")]
OFTEN += [name for name in PAIRS if name.startswith("fold beside") or "after a loss" in name]
OFTEN += [f"run beside {name}, long ago" for name in COMMANDS if name != "a run after a loss"]
OFTEN = list(dict.fromkeys([*OFTEN, "replay beside replay, one file"]))
