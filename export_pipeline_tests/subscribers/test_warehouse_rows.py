"""Events read as the first ones of a batch were are read as one value after the other."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.subscribers import warehouse_rows
from export_pipeline.subscribers.warehouse_arrow import arrow_array, json_text
from export_pipeline.subscribers.warehouse_rows import Rows, read_rows
from export_pipeline.testing import batch_of

NAMES = ["a", "b", "userId", "é", 'q"', ""]
VALUES = [
    '"x"',
    '""',
    '"\\u00e9"',
    '"é"',
    '"\\ud800"',
    "1",
    "-0",
    "12345678901234567890",
    "1.0",
    "1e999",
    "0.1",
    "true",
]
VALUES += [
    "false",
    "null",
    "{}",
    '{"b":[1, 2]}',
    "[]",
    '[{"a":"\\n"}]',
    '" "',
    "123456789012345678",
    "-12345678901234567",
]


def event(members: list[tuple[str, str]]) -> bytes:
    return ("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in members) + "}").encode()


EVENTS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5).map(event)


def found(rows: Rows) -> Any:
    """What was read, JSON as text."""
    members = {
        name: [
            (row, kind, json_text(value) if kind == "json" else value)
            for row, kind, value in zip(member.rows, member.kinds, member.values, strict=True)
        ]
        for name, member in rows.members.items()
    }
    return members, rows.event_ids, rows.former_ids, rows.positions, rows.refused


@given(events=st.lists(EVENTS, min_size=1, max_size=12), learned=st.integers(1, 4), together=st.integers(1, 5))
def test_what_is_usual_is_read_as_all_else(events: list[bytes], learned: int, together: int) -> None:
    """Whatever the first events were: values, kinds and refusals, in the order of the events."""
    batch = batch_of(events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warehouse_rows, "_LEARNED", frozenset({learned, 2 * learned + 1}))
        patch.setattr(warehouse_rows, "_AT_A_TIME", together)
        fast = read_rows(batch, by_content=False, takes_nul=True)
        patch.setattr(warehouse_rows, "_LEARNED", frozenset())
        slow = read_rows(batch, by_content=False, takes_nul=True)
    assert found(fast) == found(slow)


def test_json_is_passed_on_as_it_was_written() -> None:
    """Also where there is none, and beside JSON that was made here."""
    batch = batch_of([b'{"a":{"x": [1.50]}}', b'{"b":1}', '{"a":["é"]}'.encode(), b'{"a":null}'])
    values: list[Any] = [None, None, None, None]
    member = read_rows(batch, by_content=False, takes_nul=True).members["a"]
    for row, value in zip(member.rows, member.values, strict=True):
        values[row] = value
    assert arrow_array("json", values).to_pylist() == ['{"x": [1.50]}', None, '["é"]', None]
    assert arrow_array("json", [*values, "[]"]).to_pylist() == ['{"x": [1.50]}', None, '["é"]', None, "[]"]
    assert arrow_array("json", []).type == pa.string()
