"""Which events a subscriber gets, and which of their fields: ``only``, ``except`` and ``drop_fields``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers import paths

EVENT_TYPE = "event_type"

Values = Mapping[str, Sequence[Any]]
"""Path → the values meant."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What is left of a batch.

    Attributes:
        batch: the events that go on, under the same id; None where none does.
        indices: where each of them was in the whole batch.
    """

    batch: Batch | None
    indices: Sequence[int]


def select(batch: Batch, *, only: Values, but: Values, drop_fields: Sequence[str]) -> Selected:
    """What *only*, *but* (``except``) and *drop_fields* leave of *batch*.

    An event stays when at every path of *only* it has one of the values, and at no path of *but*.
    """
    if not (only or but or drop_fields):
        return Selected(batch, range(batch.events))
    lines = batch.lines()
    indices: Sequence[int] = range(batch.events)
    if only or but:
        wanted = [(paths.split(path), values) for path, values in only.items()]
        unwanted = [(paths.split(path), values) for path, values in but.items()]
        events = (json.loads(line) for line in lines)
        indices = [
            index
            for index, event in enumerate(events)
            if all(_is_one_of(paths.look_up(event, steps), values) for steps, values in wanted)
            and not any(_is_one_of(paths.look_up(event, steps), values) for steps, values in unwanted)
        ]
    if not indices:
        return Selected(None, ())
    dropped = [paths.split(path) for path in drop_fields]
    kept = [paths.drop(lines[index], dropped) if dropped else lines[index] for index in indices]
    return Selected(batch.holding(kept, id=batch.id), indices)


def _is_one_of(found: Any, values: Sequence[Any]) -> bool:
    """Equality as in JSON: true is not 1."""
    return any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in values)


def as_values(given: object) -> object:
    """A bare list in a deployment file is one of event types."""
    return {EVENT_TYPE: given} if isinstance(given, list) else given
