"""Which events a subscriber gets, and which of their fields: ``only``, ``except`` and ``drop_fields``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers import paths
from export_pipeline.subscribers.parsing import Unfit, parse

EVENT_TYPE = "event_type"

Values = Mapping[str, Sequence[Any]]
"""Path → the values meant."""
_Condition = tuple[Sequence[str], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Selected:
    """What is left of a batch.

    Attributes:
        batch: the events that go on, under the same id; None where none does.
        indices: where each of them was in the whole batch.
        refused: index in the whole batch → why nobody can tell whether, or without which fields, the event may leave.
    """

    batch: Batch | None
    indices: Sequence[int]
    refused: Mapping[int, str] = field(default_factory=dict)


def select(batch: Batch, *, only: Values, but: Values, drop_fields: Sequence[str]) -> Selected:
    """What *only*, *but* (``except``) and *drop_fields* leave of *batch*.

    An event stays when at every path of *only* it has one of the values, and at no path of *but*.
    """
    if not (only or but or drop_fields):
        return Selected(batch, range(batch.events))
    wanted = [(paths.split(path), values) for path, values in only.items()]
    unwanted = [(paths.split(path), values) for path, values in but.items()]
    dropped = [paths.split(path) for path in drop_fields]
    kept: dict[int, bytes] = {}
    refused: dict[int, str] = {}
    for index, line in enumerate(batch.lines()):
        try:
            if not (wanted or unwanted) or _is_chosen(parse(line), wanted, unwanted):
                kept[index] = paths.drop(line, dropped) if dropped else line
        except Unfit as reason:
            refused[index] = str(reason)
    if not kept:
        return Selected(None, (), refused)
    return Selected(batch.holding(kept.values(), id=batch.id, positions=tuple(kept)), tuple(kept), refused)


def _is_chosen(event: object, wanted: Sequence[_Condition], unwanted: Sequence[_Condition]) -> bool:
    return all(_is_one_of(paths.look_up(event, steps), values) for steps, values in wanted) and not any(
        _is_one_of(paths.look_up(event, steps), values) for steps, values in unwanted
    )


def _is_one_of(found: Any, values: Sequence[Any]) -> bool:
    """Equality as in JSON: true is not 1."""
    return any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in values)


def as_values(given: object) -> object:
    """A bare list in a deployment file is one of event types."""
    return {EVENT_TYPE: given} if isinstance(given, list) else given
