"""Cutting a batch into requests."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.errors import Blocked
from export_pipeline.subscribers.packing import Limits, Packed, pack
from export_pipeline.subscribers.parsing import Unfit
from export_pipeline.testing import batch_of


def letters(line: bytes) -> Sequence[bytes]:
    """An event ``{"n":"aab"}`` becomes one item for each run of letters; of an empty one nothing is wanted."""
    text = line[6:-2]
    if text.startswith(b"!"):
        raise Unfit("cannot be said")
    return [bytes([byte]) * text.count(byte) for byte in sorted(set(text))]


@given(
    texts=st.lists(st.text("abc!", max_size=8), min_size=1, max_size=30),
    max_events=st.integers(1, 6),
    max_bytes=st.integers(1, 20),
    max_event_bytes=st.integers(1, 10),
    overhead=st.integers(0, 3),
)
def test_every_event_is_in_one_request_or_refused_or_filtered(
    texts: list[str], max_events: int, max_bytes: int, max_event_bytes: int, overhead: int
) -> None:
    """No request exceeds a limit, the order stays, and each event ends in exactly one place."""
    batch = batch_of([f'{{"n":"{text}"}}'.encode() for text in texts])
    limits = Limits(max_events, max_bytes, max_event_bytes, overhead_bytes=overhead)
    cut = pack(batch, letters, limits)
    placed = [position for positions, _ in cut.parts for position in positions]
    assert placed == sorted(placed)
    assert sorted([*placed, *cut.refused, *cut.filtered]) == list(range(len(texts)))
    for positions, part in cut.parts:
        assert isinstance(part, Packed)
        assert part.lines() == [batch.lines()[position] for position in positions]
        assert part.items == [item for line in part.lines() for item in letters(line)]
        assert len(part.items) <= max_events
        assert overhead + sum(len(item) + 1 for item in part.items) <= max_bytes
        assert max(map(len, part.items)) <= max_event_bytes
    for position in cut.filtered:
        assert texts[position] == ""
    for position, reason in cut.refused.items():
        assert reason
        alone = pack(batch_of([batch.lines()[position]]), letters, limits)
        assert alone.parts == [], "it would have fitted into a request of its own"


def test_requests_are_as_few_as_the_order_allows() -> None:
    """Events are put together until the next one would exceed a limit."""
    batch = batch_of([b'{"n":"aaa"}'] * 10)
    assert [len(p) for p, _ in pack(batch, letters, Limits(4, 1000, 100)).parts] == [4, 4, 2]
    assert [len(p) for p, _ in pack(batch, letters, Limits(100, 21, 100, overhead_bytes=1)).parts] == [5, 5]


def test_reasons_by_item_become_reasons_by_event() -> None:
    """Where one of an event's items is refused, the event is; the first reason stands."""
    [(_, part)] = pack(batch_of([b'{"n":"a"}', b'{"n":"abc"}', b'{"n":"c"}']), letters, Limits(9, 99, 9)).parts
    assert isinstance(part, Packed)
    assert part.by_event({4: "last", 2: "second", 3: "third"}) == {1: "second", 2: "last"}


@pytest.mark.parametrize("item", [-1, 5])
def test_a_reason_for_an_item_that_was_not_sent_blocks(item: int) -> None:
    """A destination that counts otherwise must not make another event lost."""
    [(_, part)] = pack(batch_of([b'{"n":"a"}', b'{"n":"abc"}', b'{"n":"c"}']), letters, Limits(9, 99, 9)).parts
    assert isinstance(part, Packed)
    with pytest.raises(Blocked, match=f"named item {item} of a request with 5 items: bad"):
        part.by_event({item: "bad"})


def test_picking_keeps_what_was_encoded() -> None:
    """The request for some of the events is the same without the others."""
    [(_, part)] = pack(batch_of([b'{"n":"a"}', b'{"n":"abc"}', b'{"n":"c"}']), letters, Limits(9, 99, 9)).parts
    assert isinstance(part, Packed)
    picked = part.pick([0, 2], "id-2")
    assert (picked.id, picked.events, picked.items) == ("id-2", 2, [b"a", b"c"])
    assert picked.lines() == [b'{"n":"a"}', b'{"n":"c"}']
