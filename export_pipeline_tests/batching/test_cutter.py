"""Batches hold whole events, within the limits, and always the same ones."""

from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipeline.batching.cutter import BatchLimits, CutBatch, Cutter
from export_pipeline.source.framed import Lines

LINES = st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=12).map(lambda b: b.replace(b"\n", b"x"))))


class Filled(NamedTuple):
    """A batch, whatever parts it was made of."""

    data: bytes
    events: int
    files: tuple[str, ...]


def filled(cuts: Iterable[CutBatch]) -> list[Filled]:
    """What the batches hold; none says another size than it has."""
    found = [(cut, b"".join(cut.parts)) for cut in cuts]
    assert [cut.size_bytes for cut, _ in found] == [len(data) for _, data in found]
    return [Filled(data, cut.events, cut.files) for cut, data in found]


def cut_all(portions: list[tuple[str, list[bytes]]], limits: BatchLimits) -> list[Filled]:
    """The batches of events that come in *portions* of (file, lines)."""
    cutter = Cutter(limits)
    cuts = filled(cut for file, lines in portions for cut in cutter.add(list(lines), file=file))
    cuts += filled(cutter.finish())
    assert cutter.events == sum(cut.events for cut in cuts) == sum(len(lines) for _, lines in portions)
    # The same where the events come as lines, copied or as views.
    cutter = Cutter(limits)
    again: list[Filled] = []
    for number, (file, lines) in enumerate(portions):
        text = b"".join(line + b"\n" for line in lines)
        found = Lines(memoryview(text) if number % 2 else text, len(lines))
        again += filled(cutter.add(found if lines else [], file=file))
    assert again + filled(cutter.finish()) == cuts
    return cuts


def one_by_one(events: list[tuple[str, bytes]], limits: BatchLimits) -> list[Filled]:
    """The same, written as plainly as can be: a batch ends where the next event does not fit."""
    batches: list[list[tuple[str, bytes]]] = []
    for file, line in events:
        fits = (
            batches
            and len(batches[-1]) < limits.max_events
            and sum(len(other) + 1 for _, other in batches[-1]) + len(line) + 1 <= limits.max_bytes
        )
        if not fits:
            batches.append([])
        batches[-1].append((file, line))
    return [
        Filled(b"".join(line + b"\n" for _, line in batch), len(batch), tuple(dict.fromkeys(file for file, _ in batch)))
        for batch in batches
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LINES, st.integers(1, 6), st.integers(1, 40), st.data())
def test_where_batches_end_depends_on_events_alone(
    drawn: list[tuple[int, bytes]], max_events: int, max_bytes: int, data: st.DataObject
) -> None:
    """In whatever portions the events come, the batches are the same, whole, in order and within the limits."""
    events = [(f"file-{number}", line) for number, line in sorted(drawn, key=lambda pair: pair[0])]
    limits = BatchLimits(max_events=max_events, max_bytes=max_bytes)
    portions: list[tuple[str, list[bytes]]] = []
    for file, line in events:
        if portions and portions[-1][0] == file and data.draw(st.booleans()):
            portions[-1][1].append(line)
        else:
            portions.append((file, [line]))
    cuts = cut_all(portions, limits)
    assert cuts == one_by_one(events, limits)
    for cut in cuts:
        assert 1 <= cut.events <= max_events
        assert len(cut.data) <= max_bytes or cut.events == 1
        assert cut.data.count(b"\n") == cut.events


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        (BatchLimits(max_events=2, max_bytes=1000), [2, 2, 1]),
        (BatchLimits(max_events=1000, max_bytes=8), [2, 2, 1]),
        (BatchLimits(max_events=1000, max_bytes=7), [1, 1, 1, 1, 1]),
        (BatchLimits(max_events=5, max_bytes=20), [5]),
        (BatchLimits(max_events=1, max_bytes=1), [1, 1, 1, 1, 1]),
    ],
)
def test_each_limit_ends_a_batch(limits: BatchLimits, sizes: list[int]) -> None:
    """Events and bytes, line feeds included, are counted up to exactly the limit."""
    assert [cut.events for cut in cut_all([("a", [b"{1}"] * 5)], limits)] == sizes


def test_an_event_longer_than_a_batch_is_one_of_its_own() -> None:
    """It neither joins the events before it nor takes those after it."""
    cuts = cut_all([("a", [b"1", b"long" * 9, b"2", b"3"])], BatchLimits(max_bytes=5))
    assert [cut.data for cut in cuts] == [b"1\n", b"long" * 9 + b"\n", b"2\n3\n"]


def test_a_batch_knows_its_files() -> None:
    """Each file is named once, in reading order, and only where an event of it is in the batch."""
    cuts = cut_all([("a", [b"1", b"2"]), ("b", []), ("c", [b"3"]), ("d", [b"4", b"5"])], BatchLimits(max_events=3))
    assert [cut.files for cut in cuts] == [("a", "c"), ("d",)]


def test_nothing_gives_no_batch() -> None:
    """Without events there is no batch, not an empty one."""
    assert cut_all([("a", []), ("b", [])], BatchLimits()) == []
