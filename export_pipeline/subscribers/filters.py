"""Which events a subscriber gets, and which of their fields: ``only``, ``except`` and ``drop_fields``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers import paths
from export_pipeline.subscribers.decoding import UNUSUAL, as_tree, reader, without
from export_pipeline.subscribers.parsing import Unfit, parse

EVENT_TYPE = "event_type"

Values = Mapping[str, Sequence[Any]]
"""Path → the values to look for."""
_Condition = tuple[Sequence[str], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Selected:
    """What is left of a batch.

    Attributes:
        batch: the selected events, under the same id; None if there are none.
        indices: the position of each of them in the whole batch.
        refused: index in the whole batch → why it cannot be decided whether to send the event, or which fields to drop.
    """

    batch: Batch | None
    indices: Sequence[int]
    refused: Mapping[int, str] = field(default_factory=dict)


def select(batch: Batch, *, only: Values, but: Values, drop_fields: Sequence[str]) -> Selected:
    """Apply *only*, *but* (``except``) and *drop_fields* to *batch*.

    An event is selected if it has one of the values at every path of *only*, and at no path of *but*.
    """
    if not (only or but or drop_fields):
        return Selected(batch, range(batch.events))
    choose = _chooser(only, but)
    shorten = _shortener(drop_fields)
    kept: dict[int, bytes] = {}
    refused: dict[int, str] = {}
    for index, line in enumerate(batch.lines()):
        try:
            if choose is None or choose(line):
                kept[index] = line if shorten is None else shorten(line)
        except Unfit as reason:
            refused[index] = str(reason)
    if not kept:
        return Selected(None, (), refused)
    return Selected(batch.holding(kept.values(), id=batch.id, positions=tuple(kept)), tuple(kept), refused)


def _chooser(only: Values, but: Values) -> Callable[[bytes], bool] | None:
    """A function that decides whether an event is selected; None: all are."""
    wanted = [(paths.split(path), values) for path, values in only.items()]
    unwanted = [(paths.split(path), values) for path, values in but.items()]
    if not (wanted or unwanted):
        return None
    read = reader([steps for steps, _ in (*wanted, *unwanted)])
    if read is None:
        return lambda line: _is_chosen(parse(line), wanted, unwanted)
    all_of = [_test(values) for _, values in wanted]
    none_of = [_test(values) for _, values in unwanted]
    split = len(all_of)

    def choose(line: bytes) -> bool:
        try:
            found = read(line)
        except UNUSUAL:
            return _is_chosen(parse(line), wanted, unwanted)
        for is_one, one in zip(all_of, found, strict=False):
            if not is_one(one):
                return False
        return not any(is_one(one) for is_one, one in zip(none_of, found[split:], strict=True))

    return choose


def _test(values: Sequence[Any]) -> Callable[[Any], bool]:
    if all(isinstance(value, str) for value in values):
        texts = frozenset(values)
        return lambda found: found.__class__ is str and found in texts
    return lambda found: _is_one_of(found, values)


def _shortener(drop_fields: Sequence[str]) -> Callable[[bytes], bytes] | None:
    """A function that removes the dropped fields from an event; None: nothing is dropped."""
    dropped = [paths.split(path) for path in drop_fields]
    if not dropped:
        return None
    tree = as_tree(dropped)

    def shorten(line: bytes) -> bytes:
        if tree is not None:
            try:
                left = without(line, tree)
            except UNUSUAL:
                left = None
            if left is not None:
                return left
        return paths.drop(line, dropped)

    return shorten


def _is_chosen(event: object, wanted: Sequence[_Condition], unwanted: Sequence[_Condition]) -> bool:
    return all(_is_one_of(paths.look_up(event, steps), values) for steps, values in wanted) and not any(
        _is_one_of(paths.look_up(event, steps), values) for steps, values in unwanted
    )


def _is_one_of(found: Any, values: Sequence[Any]) -> bool:
    """Equality as in JSON: true is not 1."""
    return any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in values)


def as_values(given: object) -> object:
    """A plain list in a deployment file means event types."""
    return {EVENT_TYPE: given} if isinstance(given, list) else given
