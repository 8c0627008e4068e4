"""What stories are told with: steps that are files, answers, times and the product's commands."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from export_pipeline_tests.simulation import commands
from export_pipeline_tests.simulation.seams import CURSOR, Clock, Killed, Seam, watching
from export_pipeline_tests.simulation.truths import Ending
from export_pipeline_tests.simulation.world import Mood, Outside, World


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    Attributes:
        is_command: a process does it, which may die.
        is_job: it sweeps staging, reads and delivers.
        is_repeated: where it died, the person who gave the command gives it again.
        may_be_forgotten: or does not, since nothing is promised of a command that died half-way.
    """

    name: str
    act: Callable[[World], None]
    is_command: bool = False
    is_repeated: bool = False
    may_be_forgotten: bool = False
    is_job: bool = False


@dataclass(frozen=True)
class Scenario:
    """A story.

    Attributes:
        shows: numbers, as :func:`facts` has them, that say that it did what its name says, where no process died.
        needs: modules of an extra.
    """

    name: str
    steps: tuple[Step, ...]
    shows: Mapping[str, int] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def differs(self, ending: Ending, outside: Outside) -> list[str]:
        """What did not come to what its name says."""
        found = facts(ending, outside)
        return [
            f"the scenario ends with {what}={found.get(what, 0)}, not with {number}"
            for what, number in self.shows.items()
            if found.get(what, 0) != number
        ]


def facts(ending: Ending, outside: Outside) -> dict[str, int]:
    """What a story came to, in numbers: a subscriber → how many events it has; states, kinds, what commands did."""
    events: dict[str, set[str]] = {}
    for one in outside.received:
        events.setdefault(one.subscriber, set()).update(one.events)
    return {
        **{name: len(some) for name, some in events.items()},
        **ending.manifests,
        **ending.kinds(),
        **outside.done,
        "delivered": ending.deliveries["delivered"],
        "folded": ending.folded,
        "parts": ending.parts,
        "lost_answers": outside.lost_answers,
    }


def put(key: str, events: int = 2, **how: Any) -> Step:
    """A file gets a new content, of so many events; *how*: of :meth:`.world.World.put`."""
    return Step(f"put {key}", lambda world: world.put(f"2026/11/{key}", events, **how))


def remove(key: str) -> Step:
    """A file is deleted."""
    return Step(f"remove {key}", lambda world: world.remove(f"2026/11/{key}"))


def rules(**changed: Any) -> Step:
    """The deployment file changes."""

    def change(world: World) -> None:
        world.outside.rules = replace(world.outside.rules, **changed)

    return Step(f"rules {changed}", change)


def subscribers(**since: str | None) -> Step:
    """Who is in the deployment file from now on: name → since."""
    return Step(f"subscribers {since}", lambda world: setattr(world.outside, "subscribers", dict(since)))


def answers(name: str, **mood: Any) -> Step:
    """A subscriber's mood changes; *mood*: fields of :class:`.world.Mood`."""
    return Step(f"{name} answers {mood}", lambda world: world.outside.moods.update({name: Mood(**mood)}))


def message(body: str) -> Step:
    """A message comes that no bucket sent."""
    return Step(f"message {body}", lambda world: world.outside.messages.update({body: body}))


def overwrite(pattern: str, data: bytes) -> Step:
    """Somebody writes into files that are there, in place."""

    def act(world: World) -> None:
        for path in world.root.glob(pattern):
            path.write_bytes(data)

    return Step(f"overwrite {pattern}", act)


def cursor(text: str) -> Step:
    """A person sets the cursor."""
    return Step(f"cursor {text!r}", lambda world: setattr(world.outside, "cursor", text))


def days_pass(days: int) -> Step:
    """The clock goes on by so many days."""

    def act(world: World) -> None:
        world.outside.days += days
        Clock.days = world.outside.days

    return Step(f"{days} days pass", act)


def wipe(pattern: str) -> Step:
    """Files are lost: those that a pattern below the world's folder finds."""
    return Step(f"wipe {pattern}", lambda world: world.wipe(pattern))


def backfill(day: int, **how: Any) -> Step:
    """``backfill_job`` of a day of November 2026; *how*: of :func:`.commands.backfill`."""
    name = f"backfill {day} {'all' if how.get('again') else 'missing'}"
    return Step(name, partial(commands.backfill, day=f"2026-11-{day}", **how), True, True)


def _plan(world: World) -> None:
    def die(seam: Seam) -> None:
        if seam.kind == CURSOR:
            raise Killed

    with suppress(Killed), watching(str(world.root), die):
        commands.run(world)


plan = Step("a run that dies once it has planned", _plan)
run = Step("run", commands.run, is_command=True, is_job=True)
retry = Step("quarantine retry", commands.retry, True, True, True)
dismiss = Step("quarantine dismiss", commands.dismiss, True, True, True)
fold = Step("fold", commands.fold, is_command=True)
rebuild = Step("ledger rebuild", commands.rebuild, True, True)
