"""What the product says of itself: ``status``, ``why`` and ``quarantine list``, asked as people ask them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.batching.record import FILE, REFUSED, STRETCH, Record
from export_pipeline.cli.outline import Outline
from export_pipeline.cli.quarantine import list_quarantine
from export_pipeline.cli.session import Session
from export_pipeline.cli.status import status
from export_pipeline.cli.why import MOST_RECORDS, why
from export_pipeline.configuration.stores import QuarantineSettings
from export_pipeline.ledger import database
from export_pipeline.source.settings import SourceSettings
from export_pipeline_tests.simulation.world import World

_DELIVERED = "it was delivered to "


@dataclass
class Sayings:
    """The answers.

    Attributes:
        status, quarantine: of ``status --json`` and ``quarantine list --json``.
        why: key → of ``why KEY --json``.
        is_well: by the exit code of ``status``.
    """

    status: Any
    quarantine: Any
    is_well: bool
    why: dict[str, Any] = field(default_factory=dict)

    def delivered(self, key: str) -> set[str]:
        """To whom a file was, as ``why`` has it."""
        texts = [one["text"] for one in self.why[key]["answers"] if one["text"].startswith(_DELIVERED)]
        return {name for text in texts for name in text.removeprefix(_DELIVERED).split(", ")}


class _Asked(Session):
    """A call of a command in a world, which keeps what it answers."""

    answer: Any = None

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def outline(self) -> Outline:
        world, rules = self._world, self._world.outside.rules
        return Outline(
            name="simulation",
            path=Path("simulation.yaml"),
            source=SourceSettings(url=str(world.bucket), start_date=rules.start_date, on_overwrite=rules.on_overwrite),
            ledger_url=world.ledger_url,
            quarantine=QuarantineSettings(url=str(world.root / "quarantine")),
            limits=rules.limits,
            lookback_hours=26,
            start_from="beginning",
            enabled=True,
            prefix="",
            subscribers=tuple(world.outside.subscribers),
            secrets=frozenset(),
        )

    def show_json(self, value: object) -> None:
        self.answer = value


def ask(world: World) -> Sayings:
    """Ask all three, the second of each file that is there."""
    with _lent(world):
        asked = _Asked(world)
        code = status(asked, json=True)
        found = Sayings(asked.answer, None, code == 0)
        list_quarantine(asked, json=True)
        found.quarantine = asked.answer
        for version in world.outside.versions:
            if version.is_there:
                why(asked, version.key, json=True)
                found.why[version.key] = asked.answer
    return found


@contextmanager
def _lent(world: World) -> Iterator[None]:
    """Commands open the ledger themselves; here they all get the same one, which stays open from one to the next."""
    lent = world.lend()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lent, "close", lambda: None)
            patch.setattr(database, "Ledger", lambda *_, **__: lent)
            yield
    finally:
        lent.close()


def untrue(world: World, said: Sayings, records: list[Record], dismissed: list[Record]) -> list[str]:
    """What was said and is not so, now that all is quiet.

    Args:
        records: what waits in the quarantine.
        dismissed: what waits there no more, since somebody said so.
    """
    broken = [f"the equations: {one}" for one in said.status["imbalances"]]
    owed = {one["subscriber"]: one["owed_files"] for one in said.status["subscribers"] if one["is_active"]}
    if owed != dict.fromkeys(world.outside.subscribers, 0):
        broken.append(f"status says that subscribers are owed files: {owed}")
    files = {record.key for record in records if record.kind == FILE}
    given_up = {key for one in said.status["given_up"] for key in one["keys"]}
    if said.is_well == bool(given_up):
        broken.append(f"status exits with {int(not said.is_well)} where it says that these are given up: {given_up}")
    # A folded manifest is told by its first key alone, and its files in the quarantine have no names.
    unnamed = "" in files
    broken += [
        f"status says that {key} is given up, and the quarantine does not have it"
        for key in given_up - files
        if not unnamed and not key.startswith("retries/")
    ]
    broken += [f"the quarantine has {key or 'a file'}, and status does not say so" for key in files - given_up - {""}]
    kept = Counter(record.kind for record in records)
    listed: Counter[str] = Counter()
    for row in said.quarantine:
        listed[row["kind"]] += row["records"]
    if kept != listed:
        broken.append(f"quarantine list has {dict(listed)} of {dict(kept)}")
    return broken + [sentence for key in said.why for sentence in _of_file(world, said, key, records, dismissed)]


def _of_file(world: World, said: Sayings, key: str, records: list[Record], dismissed: list[Record]) -> Iterator[str]:
    """What ``why`` says of one file."""
    outside = world.outside
    (version,) = (one for one in outside.versions if one.key == key and one.is_there)
    story = said.why[key]
    codes = {one["code"] for one in story["answers"]}
    has = {one.subscriber: set[str]() for one in outside.received}
    for one in outside.received:
        has[one.subscriber].update(one.events)
    aside = {record.data.decode() for record in [*records, *dismissed] if record.kind in (REFUSED, STRETCH)}
    for name in outside.subscribers:
        missing = [
            event
            for event in version.events
            if event not in has.get(name, ()) and (name, event) not in outside.filtered
        ]
        kept = [event for event in missing if any(event in text for text in aside)]
        if name in said.delivered(key) and len(kept) < len(missing):
            yield f"why says that {key} was delivered to {name}, which has not got all of it"
        if version.events and not missing and name not in said.delivered(key) and "replaced" not in codes:
            yield f"why says {codes} of {key}, and not that {name} has got it"
    if not version.is_valid and "given_up" not in codes and story["lives"]:
        yield f"why says {codes} of {key}, which cannot be read"
    etag = story["there"]["etag"]
    there = Counter(record.kind for record in records if (record.key, record.etag) == (key, etag))
    told = Counter(one["kind"] for one in story["quarantined"])
    # Of a batch with events of other files, the refused ones of these are shown as well.
    is_told = all(told[kind] == there[kind] for kind in (FILE, STRETCH)) and told[REFUSED] >= there[REFUSED]
    if not is_told and told.total() <= MOST_RECORDS:
        yield f"why shows {dict(told)} of {key}, of which the quarantine has {dict(there)}"
