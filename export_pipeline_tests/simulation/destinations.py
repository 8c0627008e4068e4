"""Who answers from outside: subscribers, and the queue of messages. What they have outlives whoever works with them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from export_pipeline.batching.batch import Batch
from export_pipeline.batching.batch import Receipt as Answer
from export_pipeline.delivery.subscriber import Deliverer
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.source.queue import Message
from export_pipeline.subscribers import filters
from export_pipeline.subscribers.files import Files
from export_pipeline_tests.simulation.seams import CALL, MESSAGES, TAKEN, seam
from export_pipeline_tests.simulation.world import REFUSED_MARK, Mood, Receipt, World

if TYPE_CHECKING:
    from pathlib import Path

FILES, WAREHOUSE = "files", "warehouse"
"""Names of subscribers that are the product's own: a folder, and a DuckDB file."""


def open_receivers(world: World) -> dict[str, Deliverer]:
    """The subscribers of the deployment file, by name."""
    own = {FILES: _files, WAREHOUSE: _warehouse}
    return {name: own[name](world) if name in own else Receiver(world, name) for name in world.outside.subscribers}


class Receiver:
    """A stand-in."""

    retry_for_seconds = 0.0

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.max_in_flight = world.outside.rules.in_flight

    @property
    def mood(self) -> Mood:
        """How it answers now."""
        return self.world.outside.moods.get(self.name, Mood())

    def secret_values(self) -> tuple[str, ...]:
        return ()

    def select(self, batch: Batch) -> filters.Selected:
        only = {"kind": [self.mood.only]} if self.mood.only else {}
        found = filters.select(batch, only=only, but={}, drop_fields=())
        left_out = [line for index, line in enumerate(batch.lines()) if index not in found.indices]
        self.world.outside.filtered |= {(self.name, json.loads(line)["n"]) for line in left_out}
        return found

    def deliver(self, batch: Batch) -> None:
        """Take the batch, or answer in today's mood."""
        seam(CALL, f"{self.name} {batch.id}", is_effect=False)
        outside, mood = self.world.outside, self.mood
        names = tuple(json.loads(line)["n"] for line in batch.lines())
        marked = [index for index, name in enumerate(names) if name.endswith(REFUSED_MARK)]
        if mood.is_down:
            raise Blocked("gone")
        if mood.later:
            outside.moods[self.name] = replace(mood, later=mood.later - 1)
            raise TryLater("busy")
        if marked and mood.refuses:
            raise Refused("refused", events=dict.fromkeys(marked, "marked") if mood.refuses == "index" else None)
        outside.receive(Receipt(self.name, batch.id, names))
        seam(TAKEN, f"{self.name} {batch.id}")
        if mood.loses:
            outside.moods[self.name] = replace(mood, loses=mood.loses - 1)
            outside.lost_answers += 1
            raise TryLater("the answer got lost")


def _files(world: World) -> Files:
    class Seamed(Files):
        def deliver(self, batch: Batch) -> None:
            seam(CALL, f"{FILES} {batch.id}", is_effect=False)
            super().deliver(batch)
            seam(TAKEN, f"{FILES} {batch.id}")

    return Seamed(url=str(world.root / FILES))


def _warehouse(world: World) -> Deliverer:
    from export_pipeline.subscribers.warehouse import Warehouse

    class Seamed(Warehouse):
        def deliver(self, batch: Batch) -> Answer | None:
            seam(CALL, f"{WAREHOUSE} {batch.id}", is_effect=False)
            answer = super().deliver(batch)
            # Open only while it is loaded; the thread would outlive the process that dies.
            self.close()
            seam(TAKEN, f"{WAREHOUSE} {batch.id}")
            return answer

    return Seamed(destination="duckdb", url=str(_database(world)))


def _database(world: World) -> "Path":
    return world.root / f"{WAREHOUSE}.duckdb"


def collect(world: World) -> None:
    """Look at what the product's own subscribers have made of what they got. A row that is there twice came twice."""
    outside = world.outside
    outside.received = Counter(
        {one: times for one, times in outside.received.items() if one.subscriber not in (FILES, WAREHOUSE)}
    )
    for path in (world.root / FILES).rglob("*.ndjson"):
        names = tuple(json.loads(line)["n"] for line in path.read_bytes().splitlines())
        outside.received[Receipt(FILES, path.stem, names)] = 1
    if _database(world).exists():
        import duckdb

        with duckdb.connect(str(_database(world)), read_only=True) as connection:
            rows = connection.execute("SELECT _batch_id, n FROM export.events ORDER BY _batch_id, n").fetchall()
        batches: dict[str, Counter[str]] = {}
        for batch, name in rows:
            batches.setdefault(batch, Counter())[name] += 1
        for batch, times in batches.items():
            outside.received[Receipt(WAREHOUSE, batch, tuple(times))] = max(times.values())


class MessageQueue:
    """What the bucket has told of new files, each message until somebody deletes it; it has no dead-letter queue."""

    url = "the simulation's queue"

    def __init__(self, world: World) -> None:
        self._outside = world.outside

    def receive(self, most: int) -> tuple[list[Message], bool]:
        seam(MESSAGES, "receive", is_effect=False)
        waiting = list(self._outside.messages.items())
        return [Message(identity, identity, body) for identity, body in waiting[:most]], len(waiting) <= most

    def delete(self, messages: Sequence[Message]) -> int:
        for one in messages:
            seam(MESSAGES, f"delete {one.id}")
            self._outside.messages.pop(one.id, None)
        return 0

    def waiting(self) -> int:
        return len(self._outside.messages)

    def has_dead_letters(self) -> bool | None:
        return False
