"""Which events, and which of their fields, a subscriber gets."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Refused
from export_pipeline.subscribers import paths
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.testing import batch_of, sample_event

taken: list[bytes] = []


class Plain(Subscriber):
    """Takes everything, but events that call themselves bad."""

    def deliver(self, batch: Batch) -> Receipt | None:
        bad = {n: "is bad" for n, line in enumerate(batch.lines()) if b'"bad"' in line}
        if bad:
            raise Refused("bad", events=bad)
        taken.extend(batch.lines())
        return None


@pytest.fixture(autouse=True)
def forget() -> None:
    taken.clear()


def types() -> list[str]:
    return [json.loads(line)["event_type"] for line in taken]


EVENTS = [sample_event(n) for n in range(9)]  # pageView, click, _session.start, …


def test_a_bare_list_means_event_types() -> None:
    """``only: [click]`` lets just these through; the rest counts as filtered."""
    sent = send_to(Plain(only=["click"]), batch_of(EVENTS))  # type: ignore[arg-type]
    assert sent == Sent(accepted=3, filtered=6)
    assert types() == ["click"] * 3


def test_except_keeps_events_back() -> None:
    """``except`` is the reverse, by event type or by the value at a path."""
    options: Any = {"except": {"event_type": ["click"], "endpoint.Id": ["endpoint-0"]}}
    assert send_to(Plain(**options), batch_of(EVENTS)) == Sent(accepted=4, filtered=5)
    assert types() == ["pageView", "_session.start"] * 2


def test_every_path_of_only_has_to_match() -> None:
    """Several paths of ``only`` narrow the choice; ``except`` narrows it further."""
    options: Any = {"only": {"event_type": ["click", "pageView"], "endpoint.Id": ["endpoint-1"]}, "except": ["click"]}
    assert send_to(Plain(**options), batch_of(EVENTS)).accepted == 1


def test_values_are_compared_as_in_json() -> None:
    """0 is neither false nor the text 0, and a missing value matches none."""
    events = [b'{"a":0}', b'{"a":false}', b'{"a":"0"}', b'{"a":null}', b'{"b":0}', b'{"a":0.0}']
    assert send_to(Plain(only={"a": [0]}), batch_of(events)) == Sent(accepted=2, filtered=4)
    assert taken == [b'{"a":0}', b'{"a":0.0}']
    with pytest.raises(ValidationError, match="null is not a value to look for"):
        Plain(only={"a": [None]})


def test_a_batch_of_which_nothing_is_left_is_not_sent() -> None:
    """Where all events are filtered, the destination is not called, and the batch counts as done."""
    assert send_to(Plain(only=["nothing"]), batch_of(EVENTS)) == Sent(accepted=0, filtered=9)  # type: ignore[arg-type]
    assert taken == []


def test_refused_events_are_named_by_their_place_in_the_whole_batch() -> None:
    """The quarantine gets the right event though others were filtered before it."""
    events = [
        b'{"event_type":"x"}',
        b'{"event_type":"click"}',
        b'{"event_type":"x"}',
        b'{"event_type":"click","bad":1}',
    ]
    sent = send_to(Plain(only=["click"]), batch_of(events))  # type: ignore[arg-type]
    assert sent == Sent(accepted=1, refused={3: "is bad"}, filtered=2)


def test_without_options_a_batch_passes_untouched() -> None:
    """The very same bytes under the same id."""
    batch = batch_of(EVENTS)
    assert Plain().select(batch).batch is batch


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("a", '{"a":1,"b":2}', '{"b":2}'),
        ("b", '{"a":1,"b":2}', '{"a":1}'),
        ("b", '{"a":1,"b":2,"c":3}', '{"a":1,"c":3}'),
        ("a", '{"a":1}', "{}"),
        ("a", '{"a":1,"b":2,"a":3}', '{"b":2}'),
        ("a", '{"a":1,"a":2}', "{}"),
        ("a", '{ "a" : [1, {"b": "}"}] , "b" : 2 }', '{ "b" : 2 }'),
        ("a.b", '{"a":{"b":1,"c":2},"b":3}', '{"a":{"c":2},"b":3}'),
        ("a.b", '{"a":{"b":1},"a":{"b":2}}', '{"a":{},"a":{}}'),
        ("a.b", '{"a":"b"}', '{"a":"b"}'),
        ("a.b.c", '{"a":{"b":[]}}', '{"a":{"b":[]}}'),
        ("a.1", '{"a":[1,2,3]}', '{"a":[1,3]}'),
        ("a.*.b", '{"a":[{"b":1,"c":2},{"b":3}]}', '{"a":[{"c":2},{}]}'),
        ("a.*", '{"a":{"b":1,"c":2}}', '{"a":{}}'),
        ("*.b", '{"a":{"b":1},"c":{"b":2,"d":3}}', '{"a":{},"c":{"d":3}}'),
        ("ä", r'{"\u00e4":1,"b":"\u00e4"}', r'{"b":"\u00e4"}'),
        ("a", '{"b":123456789012345678901234567890,"a":1,"c":1E+400,"d":-0.0}', None),
        ("x", '{"a":1}', '{"a":1}'),
    ],
)
def test_dropping_cuts_out_just_that(path: str, before: str, after: str | None) -> None:
    """What is at the path is gone, wherever it stood and however it was spelt; every other byte stays."""
    expected = before.replace('"a":1,', "") if after is None else after
    assert paths.drop(before.encode(), [paths.split(path)]).decode() == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def without(value: Any, steps: list[str]) -> Any:
    """The plain way: parse, delete, and keep all else."""
    if isinstance(value, dict):
        hit = [key for key in value if steps[0] in (key, "*")]
        if len(steps) == 1:
            return {key: inner for key, inner in value.items() if key not in hit}
        return {key: without(inner, steps[1:]) if key in hit else inner for key, inner in value.items()}
    if isinstance(value, list):
        hits = [n for n in range(len(value)) if steps[0] in (str(n), "*")]
        if len(steps) == 1:
            return [inner for n, inner in enumerate(value) if n not in hits]
        return [without(inner, steps[1:]) if n in hits else inner for n, inner in enumerate(value)]
    return value


@given(
    event=st.dictionaries(st.sampled_from("abc"), JSON, max_size=3),
    steps=st.lists(st.sampled_from(["a", "b", "0", "1", "*"]), min_size=1, max_size=3),
    indent=st.none() | st.just(1),
)
def test_dropping_is_deleting(event: dict[str, Any], steps: list[str], indent: int | None) -> None:
    """Cutting bytes out leads to the same value as parsing, deleting and writing again."""
    text = json.dumps(event, indent=indent)
    assert json.loads(paths.drop(text.encode(), [steps])) == without(event, steps)


def test_dropped_fields_do_not_leave() -> None:
    """Personal data is not in what the subscriber gets."""
    send_to(Plain(drop_fields=["endpoint.User", "attributes.url"]), batch_of(EVENTS))
    assert len(taken) == 9
    assert not [line for line in taken if b"UserId" in line or b"/seite/" in line]


@pytest.mark.parametrize("options", [{"drop_fields": ["a..b"]}, {"only": {"": [1]}}, {"except": {"a.": [1]}}])
def test_a_path_that_is_none_is_found_when_the_deployment_loads(options: Any) -> None:
    """The error says what a path looks like."""
    with pytest.raises(ValidationError, match="is not a path: allowed are names and numbers joined by single dots"):
        Plain(**options)


LONG = b'{"event_type":"click","n":' + b"7" * 5_000 + b"}"
DEEP = b'{"event_type":"click","n":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


@pytest.mark.parametrize("options", [{"only": ["click"]}, {"except": ["other"]}, {"drop_fields": ["endpoint.Address"]}])
def test_an_event_that_cannot_be_looked_into_is_refused_and_does_not_leave(options: Any) -> None:
    """Nobody can tell whether it may leave, so it goes to the quarantine, and the events beside it are delivered."""
    batch = batch_of([sample_event(1), DEEP, LONG, sample_event(4)])
    sent = send_to(Plain(**options), batch)
    assert sent.accepted == 3
    assert "nested too deeply" in sent.refused[1]
    assert DEEP not in taken
    assert LONG in taken


def test_a_batch_of_which_nothing_is_left_is_accounted_for() -> None:
    """Refused and filtered events add up, though nothing is sent."""
    nothing: dict[str, Any] = {"only": ["nothing like it"]}
    sent = send_to(Plain(**nothing), batch_of([sample_event(1), DEEP]))
    assert (sent.accepted, sent.filtered, list(sent.refused)) == (0, 1, [1])
