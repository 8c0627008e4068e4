"""What must be true in the end, whatever happened: a model of the promises, not a copy of the ledger."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from sqlalchemy import Connection, func, select

from export_pipeline.batching.quarantine import DISMISSED_FOLDER
from export_pipeline.batching.record import FILE, REFUSED, STRETCH, Record
from export_pipeline.ledger import owed, sources, subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline.steps.completeness import compare
from export_pipeline.steps.quarantine import adopt
from export_pipeline_tests.simulation import commands
from export_pipeline_tests.simulation.destinations import collect
from export_pipeline_tests.simulation.sayings import ask, untrue
from export_pipeline_tests.simulation.seams import NOW
from export_pipeline_tests.simulation.world import REFUSED_MARK, Mood, Outside, Version, World

_MOST_RUNS = 14


@dataclass
class Ending:
    """How the world looks when all is quiet.

    Attributes:
        stuck: why it does not get quiet; empty: it did.
        manifests, deliveries: state → how many.
        folded: how many manifests are.
        parts: how many manifests are a part of another.
        records: what waits in the quarantine.
        dismissed: what somebody dismissed.
    """

    stuck: str = ""
    waiting: dict[str, int] = field(default_factory=dict)
    lists_on: bool = False
    manifests: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    folded: int = 0
    parts: int = 0
    staged: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    dismissed: list[Record] = field(default_factory=list)

    @property
    def kept(self) -> list[Record]:
        """What the quarantine has, whether it waits or was dismissed."""
        return [*self.records, *self.dismissed]

    def kinds(self) -> Counter[str]:
        """Kind → how many records of it wait in the quarantine."""
        return Counter(record.kind for record in self.records)


def look(world: World) -> Ending:
    """How the world looks now."""
    collect(world)
    ending = Ending()
    with world.workspace() as place:
        with place.ledger.read() as tx:
            number = sources.source_id(tx, place.source.url)
            if number is not None:
                _look_at_ledger(tx, number, ending)
        # What a death left between ledger and objects is put right by the next retry or dismissal.
        adopt(place)
        ending.staged = list(place.staging.manifests())
        ending.records = [record for _, record in place.quarantine.records()]
        dismissed = sorted(place.quarantine.objects.list(DISMISSED_FOLDER))
        ending.dismissed = [record for name in dismissed for record in place.quarantine.records_in(name)]
    return ending


def _look_at_ledger(tx: Connection, number: int, ending: Ending) -> None:
    m, d = t.manifests.c, t.deliveries.c
    active = subscriptions.active(tx, number)
    ending.waiting = {one.subscriber: one.manifests for one in owed.waiting(tx, number, active) if one.manifests}
    ending.lists_on = sources.more_to_list(tx, number) or bool(sources.listing_state(tx, number).after)
    ending.manifests = Counter(tx.execute(select(m.state)).scalars())
    ending.deliveries = Counter(tx.execute(select(d.state)).scalars())
    ending.folded, ending.parts = tx.execute(select(func.count(m.folded_at), func.count(m.part_of))).one()


def staged_for_nobody(world: World) -> list[str]:
    """Manifests that a run has left in staging though nobody waits for them: the next sweep may be far."""
    if not (world.root / "staging").exists():
        return []
    with world.workspace() as place:
        staged = list(place.staging.manifests())
        if not staged:
            return []
        with place.ledger.read() as tx:
            return [f"a run leaves {one} staged for nobody" for one in staged if owed.nobody_waits(tx, one)]


def calm(world: World) -> None:
    """Let all that passes by itself pass, and run once."""
    moods = world.outside.moods
    for name, mood in moods.items():
        moods[name] = replace(mood, later=0, loses=0, is_down=False)
    world.failures = []
    commands.run(world)


def settle(world: World) -> Ending:
    """After :func:`calm`: run until nothing is left to do."""
    for _ in range(_MOST_RUNS):
        ending = look(world)
        if not (ending.waiting or ending.lists_on or world.failures):
            return ending
        world.failures = []
        commands.run(world)
    ending.stuck = f"{ending.waiting} wait, {'; '.join(world.failures[:2]) or 'nothing failed'}"
    return ending


def broken_promises(world: World, ending: Ending) -> list[str]:
    """Each promise that was not kept, as a sentence."""
    broken = [f"nobody gets on: {ending.stuck}"] if ending.stuck else []
    broken += [f"an error nobody foresaw: {one}" for one in world.surprises]
    broken += [f"staging keeps {one}" for one in ending.staged]
    broken += [f"the queue keeps the message {one}" for one in world.outside.messages]
    broken += _one_id_one_body(world) + _repeats(world) + _replays(world)
    for name in world.outside.subscribers:
        broken += _all_events_once(world, ending, name)
    broken += _quarantine(world, ending) + _completeness(world)
    return broken + untrue(world, ask(world), ending.records, ending.dismissed)


def _one_id_one_body(world: World) -> list[str]:
    bodies: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    filtering = {name for name, _ in world.outside.filtered}
    for one in world.outside.received:
        if one.subscriber in filtering:
            continue  # another filter leaves another part of the same batch
        bodies.setdefault((one.subscriber, one.batch), set()).add(one.events)
    return [f"{name}: batch {batch} has several bodies" for (name, batch), some in bodies.items() if len(some) > 1]


def _repeats(world: World) -> list[str]:
    """A batch comes once more where a process died, an answer got lost, or somebody asked for its day again."""
    slack = world.outside.slack
    return [f"{-slack} batches more came again than may have"] if slack < 0 else []


def _replays(world: World) -> list[str]:
    outside = world.outside
    return [
        f"a replay asked for {event}, which did not come to {name} again"
        for name, event in outside.wanted_again
        if name in outside.subscribers
    ]


def _all_events_once(world: World, ending: Ending, name: str) -> list[str]:
    """Each event of each file that is there: received under one id, or in the quarantine, and never both."""
    outside = world.outside
    mood = outside.moods.get(name, Mood())
    ids: dict[str, set[str]] = {}
    for one in outside.received:
        if one.subscriber == name:
            for event in one.events:
                ids.setdefault(event, set()).add(one.batch)
    broken = [f"{name} got {event} as {sorted(some)}" for event, some in ids.items() if len(some) > 1]
    waiting, refused = (
        Counter(
            json.loads(record.data)["n"] for record in records if record.kind == REFUSED and record.subscriber == name
        )
        for records in (ending.records, ending.kept)
    )
    # A limit of today may make a bad line of an event.
    bad_lines = {(record.text or "").strip() for record in ending.kept if record.kind == STRETCH}
    for version in outside.versions:
        is_wanted = version.is_there and wants(world.outside, name, version)
        for event in version.events:
            times = refused.pop(event, 0)
            if event in ids and waiting[event]:
                broken.append(f"{name} has {event}, which waits in the quarantine, too")
            elif event in ids and times and not outside.replays:
                broken.append(f"{name} has {event}, which was dismissed")
            if not is_wanted:
                continue
            is_refused = bool(mood.refuses) and event.endswith(REFUSED_MARK)
            is_filtered = (name, event) in outside.filtered
            if is_refused and times != 1:
                broken.append(f"{name}: {event}, which it refuses, is {times} times in the quarantine")
            is_kept = times or any(event in line for line in bad_lines) or _is_excused(version, ending, world)
            if not (is_refused or is_filtered or event in ids or is_kept):
                broken.append(f"{name} lost {event}")
    return broken


def wants(outside: Outside, name: str, version: Version) -> bool:
    """Whether a subscriber gets the file, by the deployment file. All files arrived before the simulation began."""
    since, rules = outside.subscribers[name], outside.rules
    is_ignored = version.number > 0 and rules.on_overwrite == "ignore"
    if since == "now" or is_ignored or version.day < rules.start_date:
        return False
    return since in (None, "beginning") or version.day >= date.fromisoformat(str(since))


def _is_excused(version: Version, ending: Ending, world: World) -> bool:
    """Whether the file could not be read once, and the quarantine says so: a person has to ask for it again."""
    keys = {record.key for record in ending.kept if record.kind == FILE}
    is_suspect = version.key in world.outside.troubled or _may_be_blamed(world.outside)
    return is_suspect and (version.key in keys or "" in keys)


def _may_be_blamed(outside: Outside) -> bool:
    """Whether a file may be given up that could be read all along: each death of who reads it may be an attempt."""
    return outside.crashes >= outside.rules.max_attempts


def _quarantine(world: World, ending: Ending) -> list[str]:
    outside = world.outside
    broken = []
    if ending.dismissed and not outside.dismissals:
        broken.append(f"{len(ending.dismissed)} records are dismissed, and nobody asked for it")
    stretches = Counter((record.text or "").strip() for record in ending.kept if record.kind == STRETCH)
    for version in outside.versions:
        lines = [f"garbage {version.key}@{version.number}.{n}" for n in range(version.garbage)]
        times = [stretches.pop(line, 0) for line in lines]
        if not (version.is_there and any(wants(outside, name, version) for name in outside.subscribers)):
            continue
        if not version.is_valid:
            if not any(record.kind == FILE and record.key == version.key for record in ending.kept):
                broken.append(f"{version.key} cannot be read, and the quarantine does not have it")
        elif times != [1] * len(lines) and not _is_excused(version, ending, world):
            broken.append(f"the quarantine has the bad lines of {version.key} {times} times")
    strangers = (line for line in stretches if not line.startswith("{"))
    broken += [f"the quarantine has {line!r}, which is in no file" for line in strangers]
    strange = {record.key for record in ending.kept if record.kind == FILE and record.key} - outside.troubled
    strange = set() if _may_be_blamed(outside) else strange
    return broken + [f"the quarantine has {key}, which could be read all along" for key in sorted(strange)]


def _completeness(world: World) -> list[str]:
    """What the check ``completeness`` finds: nothing, now that all is done."""
    with world.workspace() as place:
        found = compare(
            place.source,
            place.ledger,
            world.discovery_settings(),
            first_day=date(2026, 11, 1),
            last_day=date(2026, 11, 25),
            wanted=list(world.outside.subscribers),
            due_before=NOW + timedelta(days=400),
        )
    missing = [f"completeness misses {one.file.key}" for one in found.missing]
    late = [
        f"completeness: {name} waits for {tally.overdue_keys}"
        for name, tally in found.subscribers.items()
        if tally.overdue
    ]
    return missing + late
