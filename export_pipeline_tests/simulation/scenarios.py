"""What happens: each scenario in a line or two, of steps that are files, answers, times and the product's commands."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from export_pipeline.source.file import ReadLimits
from export_pipeline_tests.simulation import commands
from export_pipeline_tests.simulation.seams import Clock
from export_pipeline_tests.simulation.truths import Ending
from export_pipeline_tests.simulation.world import FRAMINGS, Mood, Outside, World


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    Attributes:
        is_command: a process does it, which may die.
        is_repeated: where it died, the person who gave the command gives it again.
        may_be_forgotten: or does not, since nothing is promised of a command that died half-way.
    """

    name: str
    act: Callable[[World], None]
    is_command: bool = False
    is_repeated: bool = False
    may_be_forgotten: bool = False


Shows = Callable[[Ending, Outside], object]


@dataclass(frozen=True)
class Scenario:
    """A story.

    Attributes:
        shows: whether it did what its name says, where no process died.
    """

    name: str
    steps: tuple[Step, ...]
    shows: Shows | None = None


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, *steps: Step, shows: Shows) -> None:
    """Tell a story; the next run follows on it."""
    assert name not in SCENARIOS
    SCENARIOS[name] = Scenario(name, (*steps, run), shows)


def put(key: str, events: int = 2, **how: Any) -> Step:
    return Step(f"put {key}", lambda world: world.put(f"2026/11/{key}", events, **how))


def remove(key: str) -> Step:
    return Step(f"remove {key}", lambda world: world.remove(f"2026/11/{key}"))


def rules(**changed: Any) -> Step:
    def change(world: World) -> None:
        world.outside.rules = replace(world.outside.rules, **changed)

    return Step(f"rules {changed}", change)


def subscribers(**since: str | None) -> Step:
    return Step(f"subscribers {since}", lambda world: setattr(world.outside, "subscribers", dict(since)))


def answers(name: str, **mood: Any) -> Step:
    return Step(f"{name} answers {mood}", lambda world: world.outside.moods.update({name: Mood(**mood)}))


def cursor(text: str) -> Step:
    return Step(f"cursor {text!r}", lambda world: setattr(world.outside, "cursor", text))


def days_pass(days: int) -> Step:
    def act(world: World) -> None:
        world.outside.days += days
        Clock.days = world.outside.days

    return Step(f"{days} days pass", act)


def wipe(pattern: str) -> Step:
    return Step(f"wipe {pattern}", lambda world: world.wipe(pattern))


def backfill(day: int, **how: Any) -> Step:
    name = f"backfill {day} {'all' if how.get('again') else 'missing'}"
    return Step(name, lambda world: commands.backfill(world, f"2026-11-{day}", **how), True, True)


run = Step("run", commands.run, is_command=True)
retry = Step("quarantine retry", commands.retry, True, True, True)
fold = Step("fold", commands.fold, is_command=True)
rebuild = Step("ledger rebuild", commands.rebuild, True, True)


def events(outside: Outside, name: str) -> int:
    """How many events a subscriber has."""
    return len({event for one in outside.received if one.subscriber == name for event in one.events})


def _has(**numbers: int) -> Shows:
    """Each of these subscribers has this many events."""
    return lambda _, outside: all(events(outside, name) == number for name, number in numbers.items())


TWO = (put("22/a"), put("22/b"))
CORRUPT = (put("22/a"), put("22/b", corrupt=True), put("22/c"))

# Reading -------------------------------------------------------------------------------------------------------------

for _framing in FRAMINGS:
    _number = 0 if _framing == "empty" else 3
    scenario(f"framing: {_framing}", put("22/a", 3, framing=_framing), run, shows=_has(a=_number, b=_number))
scenario("the first run of all", wipe("ledger.db*"), *TWO, run, shows=_has(a=4, b=4))
scenario("files of two days", put("22/a"), put("22/b", 3), put("23/c"), run, run, shows=_has(a=7, b=7))
scenario("a late file", put("22/b"), run, put("22/a"), run, shows=_has(a=4))
scenario("more files than a run takes", rules(max_files=1), *TWO, put("22/c"), run, run, run, shows=_has(a=6, b=6))
scenario(
    "a manifest of each file", rules(manifest_max_files=1), *TWO, run, shows=lambda end, _: end.manifests["read"] == 2
)
scenario("corrupt", *CORRUPT, run, run, run, run, shows=lambda end, _: end.given_up == ["2026/11/22/b"])
scenario("corrupt, repaired at once", *CORRUPT, run, put("22/b"), run, shows=_has(a=6, b=6))
scenario("corrupt, given up, repaired", *CORRUPT, run, run, run, put("22/b"), run, shows=_has(a=6))
scenario(
    "corrupt, given up, retried",
    *CORRUPT,
    run,
    run,
    run,
    retry,
    run,
    shows=lambda end, outside: outside.done["retried"] == 1 and end.manifests["given_up"] == 1,
)
scenario("corrupt, given up, repaired, retried", *CORRUPT, run, run, run, put("22/b"), retry, run, shows=_has(a=6, b=6))
scenario("corrupt alone", put("22/a", corrupt=True), run, run, run, shows=lambda end, _: end.manifests["given_up"] == 1)
scenario(
    "two corrupt of four",
    *CORRUPT,
    put("22/d", corrupt=True),
    run,
    run,
    run,
    shows=lambda end, _: end.manifests["given_up"] == 2,
)
scenario(
    "bad lines",
    put("22/a", 3, garbage=2),
    put("22/b", garbage=1),
    run,
    shows=lambda end, _: end.kinds()["stretch"] == 3,
)
scenario("nothing but bad lines", put("22/a", 0, garbage=2), run, shows=lambda end, _: end.kinds()["stretch"] == 2)
scenario(
    "bad lines beside a corrupt file",
    put("22/a", 3, garbage=2),
    put("22/b", corrupt=True),
    run,
    run,
    shows=lambda end, _: end.kinds()["stretch"] == 2 and end.manifests["superseded"] == 1,
)
scenario(
    "bad lines, retried", put("22/a", garbage=2), run, retry, run, shows=lambda _, outside: outside.done["retried"] == 2
)
scenario("overwritten", *TWO, run, put("22/a", 3), run, shows=_has(a=7))
scenario(
    "overwritten before it is read", answers("a", is_down=True), *TWO, run, put("22/a", 3), run, shows=_has(a=7, b=7)
)
scenario("overwritten, ignored", rules(on_overwrite="ignore"), *TWO, run, put("22/a", 3), run, shows=_has(a=4, b=4))
scenario(
    "overwritten, ignored, wanted after all",
    rules(on_overwrite="ignore"),
    *TWO,
    run,
    put("22/a", 3),
    run,
    rules(on_overwrite="read"),
    backfill(22),
    run,
    shows=_has(a=7, b=7),
)
scenario("vanished", rules(max_files=1, manifest_max_files=1), *TWO, run, remove("22/b"), run, shows=_has(a=2))
scenario(
    "vanished and back",
    answers("a", is_down=True),
    *TWO,
    run,
    remove("22/b"),
    answers("a"),
    run,
    put("22/b", 3),
    run,
    shows=_has(b=7),
)
scenario(
    "limits changed between two tries",
    answers("a", is_down=True),
    *TWO,
    run,
    wipe("staging"),
    answers("a"),
    rules(limits=ReadLimits(max_event_bytes=20)),
    run,
    shows=_has(a=4, b=4),
)

# Delivering ----------------------------------------------------------------------------------------------------------

scenario(
    "three subscribers, three batches in flight",
    rules(in_flight=3),
    subscribers(a=None, b=None, c=None),
    put("22/a", 5),
    put("22/b", 3),
    run,
    shows=_has(a=8, b=8, c=8),
)
scenario("a busy subscriber", answers("a", later=2), put("22/a", 5), run, run, shows=_has(a=5, b=5))
scenario(
    "a lost answer", answers("b", loses=1), put("22/a", 5), run, run, shows=lambda _, outside: outside.lost_answers == 1
)
scenario(
    "one subscriber is down",
    answers("a", is_down=True),
    *TWO,
    run,
    put("22/c"),
    run,
    answers("a"),
    run,
    shows=_has(a=6),
)
scenario(
    "events refused by name",
    answers("a", refuses="index"),
    put("22/a", 4, marked=1),
    put("22/b", 3, marked=2),
    run,
    shows=lambda end, _: end.kinds()["refused"] == 3,
)
scenario(
    "events refused by halving",
    answers("a", refuses="whole"),
    put("22/a", 4, marked=1),
    put("22/b", 3, marked=1),
    run,
    shows=lambda end, _: end.kinds()["refused"] == 2,
)
scenario(
    "all events refused",
    answers("a", refuses="index"),
    put("22/a", 2, marked=2),
    run,
    shows=lambda end, _: end.kinds()["refused"] == 2,
)
scenario(
    "refused, mended, retried",
    answers("a", refuses="index"),
    put("22/a", 4, marked=1),
    run,
    answers("a"),
    retry,
    run,
    shows=_has(a=4, b=4),
)
scenario(
    "refused, retried, refused again",
    answers("a", refuses="index"),
    put("22/a", 4, marked=1),
    run,
    retry,
    run,
    shows=lambda end, outside: end.kinds()["refused"] == 1 and outside.done["retried"] == 1,
)
scenario(
    "refused by halving, mended, retried",
    answers("a", refuses="whole"),
    put("22/a", 4, marked=1),
    run,
    answers("a"),
    retry,
    run,
    shows=_has(a=4),
)
scenario(
    "refused, mended, replayed",
    answers("a", refuses="index"),
    put("22/a", 4, marked=1),
    run,
    answers("a"),
    backfill(22, again=True),
    run,
    shows=lambda end, outside: end.kinds()["refused"] == 1 and outside.done["repeated"] == 2,
)
scenario(
    "refused, mended, retried, replayed",
    answers("a", refuses="whole"),
    put("22/a", 4, marked=1),
    run,
    answers("a"),
    retry,
    run,
    backfill(22, again=True),
    run,
    shows=lambda end, outside: not end.kinds()["refused"] and outside.done["repeated"] == 3,
)
scenario(
    "refused, mended while it is down",
    answers("a", refuses="index"),
    put("22/a", 4, marked=3),
    run,
    answers("a"),
    retry,
    run,
    shows=_has(a=4),
)
scenario("a filter", answers("a", only="view"), *TWO, run, shows=_has(a=2, b=4))
scenario(
    "a filter that leaves nothing",
    answers("a", only="view"),
    put("22/a", 1),
    answers("b", only="none"),
    run,
    shows=_has(a=1, b=0),
)
scenario(
    "a filter that is changed",
    answers("a", only="view"),
    put("22/a"),
    run,
    answers("a", only="click"),
    put("22/b"),
    run,
    shows=_has(a=2),
)

# Who receives --------------------------------------------------------------------------------------------------------

scenario("a subscriber added", *TWO, run, subscribers(a=None, b=None, c="beginning"), put("22/c"), run, shows=_has(c=6))
scenario("a subscriber added from now on", *TWO, run, subscribers(a=None, b=None, c="now"), run, shows=_has(c=0))
scenario(
    "a subscriber added from a day on",
    put("20/a"),
    put("22/b"),
    run,
    subscribers(a=None, b=None, c="2026-11-21"),
    run,
    shows=_has(c=2),
)
scenario(
    "a subscriber added beside a corrupt file",
    *CORRUPT,
    run,
    subscribers(a=None, b=None, c="beginning"),
    run,
    shows=lambda end, outside: events(outside, "c") == 4 and end.manifests["superseded"] == 1,
)
scenario("a subscriber removed", *TWO, run, subscribers(a=None), put("22/c"), run, shows=_has(a=6, b=4))
scenario(
    "a subscriber removed and put back",
    subscribers(a=None, b="beginning"),
    *TWO,
    run,
    subscribers(a=None),
    put("22/c"),
    run,
    subscribers(a=None, b="beginning"),
    run,
    shows=_has(a=6, b=6),
)
scenario("a subscriber renamed", *TWO, run, subscribers(a=None, new="beginning"), run, shows=_has(new=4))
scenario(
    "a start moved earlier",
    subscribers(a="2026-11-22"),
    put("20/a"),
    put("22/b"),
    run,
    subscribers(a="2026-11-20"),
    run,
    shows=_has(a=4),
)
scenario(
    "a start moved later",
    rules(max_files=1, manifest_max_files=1),
    answers("a", is_down=True),
    put("20/a"),
    put("22/b"),
    run,
    subscribers(a="2026-11-21", b=None),
    answers("a"),
    run,
    shows=_has(a=2, b=4),
)
scenario(
    "source.start_date moved earlier",
    rules(start_date=date(2026, 11, 21)),
    put("20/a"),
    put("22/b"),
    run,
    rules(start_date=date(2026, 11, 1)),
    run,
    shows=_has(a=4, b=4),
)
scenario(
    "a file vanishes before a newcomer reads it",
    *TWO,
    run,
    remove("22/b"),
    subscribers(a=None, b=None, c="beginning"),
    run,
    run,
    run,
    shows=lambda end, outside: events(outside, "c") == 2 and end.parts > 0,
)
scenario(
    "a file vanishes, and is back for the newcomer",
    *TWO,
    run,
    remove("22/b"),
    subscribers(a=None, b=None, c="beginning"),
    run,
    run,
    run,
    put("22/b"),
    retry,
    run,
    shows=lambda end, _: end.parts > 0,
)

# Replays, folding, the ledger ----------------------------------------------------------------------------------------

scenario("backfill of what is missing", put("22/b"), run, put("20/a"), backfill(20), run, shows=_has(a=4, b=4))
scenario("backfill for one", subscribers(a=None, b="now"), *TWO, run, backfill(22, chosen=("b",)), run, shows=_has(b=4))
scenario("replay", *TWO, run, backfill(22, again=True), run, shows=lambda _, outside: outside.done["repeated"] == 2)
scenario(
    "replay for one",
    *TWO,
    run,
    backfill(22, again=True, chosen=("a",)),
    run,
    shows=lambda _, outside: outside.done["repeated"] == 1,
)
scenario(
    "replay of what is half delivered",
    answers("a", later=0),
    put("22/a", 5),
    run,
    answers("a", is_down=True),
    backfill(22, again=True),
    answers("a"),
    backfill(22, again=True),
    run,
    shows=lambda _, outside: outside.done["repeated"] >= 3,
)
scenario(
    "refused, replayed, refused again",
    answers("a", refuses="index"),
    put("22/a", 4, marked=1),
    run,
    backfill(22, again=True),
    backfill(22, again=True),
    run,
    shows=lambda end, outside: end.kinds()["refused"] == 1 and outside.done["repeated"] == 4,
)
_OLD = (rules(keep_days=2), *TWO, run, days_pass(10), fold)
scenario("folded", *_OLD, run, shows=lambda end, _: end.folded == 1)
scenario("folded by a run", rules(keep_days=2), *TWO, run, days_pass(10), run, shows=lambda end, _: end.folded == 1)
scenario("folded, a late file", *_OLD, put("22/c"), run, shows=_has(a=6, b=6))
scenario("folded, overwritten", *_OLD, put("22/a", 3), run, shows=_has(a=7))
scenario(
    "folded, replayed",
    *_OLD,
    rules(keep_days=None),
    backfill(22, again=True),
    run,
    shows=lambda _, outside: outside.done["repeated"] == 2,
)
scenario("folded, a newcomer", *_OLD, subscribers(a=None, b=None, c="beginning"), run, shows=_has(c=4))
scenario(
    "folded, a file vanished, a newcomer",
    *_OLD,
    remove("22/b"),
    subscribers(a=None, b=None, c="beginning"),
    run,
    run,
    run,
    shows=lambda end, outside: events(outside, "c") == 2 and end.kinds()["file"] == 1,
)
scenario(
    "staging wiped", answers("a", is_down=True), *TWO, run, wipe("staging"), answers("a"), run, shows=_has(a=4, b=4)
)
scenario(
    "the ledger lost and rebuilt",
    *TWO,
    run,
    wipe("ledger.db*"),
    rebuild,
    run,
    shows=lambda end, _: end.deliveries["delivered"] == 2,
)
scenario("the cursor cleared", *TWO, run, cursor(""), put("22/c"), run, shows=_has(a=6))
scenario("the cursor ahead", *TWO, run, cursor("2026/11/22/zzz"), put("22/c"), run, shows=_has(a=6))
scenario("the cursor back", put("22/a"), run, put("10/b"), cursor("2026/11/01"), run, shows=_has(a=4))
scenario(
    "the cursor of another ledger",
    *TWO,
    run,
    cursor("2026/12/22/z (ledger 01234567)"),
    put("22/c"),
    run,
    shows=_has(a=6),
)
scenario("a cursor that is none", *TWO, run, cursor("\u2603 garbage"), put("22/c"), run, shows=_has(a=6))
