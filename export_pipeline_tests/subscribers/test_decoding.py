"""The fast way through an event comes to what the exact way comes to, whatever is in the event."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from export_pipeline.batching.batch import Batch
from export_pipeline.subscribers import filters, paths
from export_pipeline.subscribers.amplitude import Amplitude
from export_pipeline.subscribers.decoding import UNUSUAL, as_tree, decode, reader, without
from export_pipeline.subscribers.mapped import MappedSubscriber
from export_pipeline.subscribers.mapping import Event, compile_mapping, to_json
from export_pipeline.subscribers.mapping_compiler import Call, EventShape, as_function
from export_pipeline.subscribers.mixpanel import Mixpanel
from export_pipeline.subscribers.parsing import Unfit, parse, parse_unusual
from export_pipeline.subscribers.posthog import Posthog
from export_pipeline.subscribers.segment import Segment
from export_pipeline.testing import sample_event

# Another process may have the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NUMBERS = [
    "0", "-0", "1.0", "1e2", "1E+2", "-0.0", "0.0", "5e-324", "1e-400", "-1e-400", "1e15", "1e16", "1.5e-7", "0.00001",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "1" * 30, "-" + "9" * 400, "1795392000001", "253402300800000",
    "12345678901234567890123.25e-3", "0.1", "1.7976931348623157e308", "1e999", "-1E400", "7" * 4301,
]  # fmt: skip
"""As JSON writes them."""
TEXTS = [
    '""', '" "', '"a"', '"\\u0061"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u0000"', '"\x7f"', '"\u2028"', '"ä"',
    '"\\u00e4"',
    '"😀"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00x"', '"{}"', '"\\":{}"', '"2026-11-28T09:00:00.250Z"',
    '"1795392000001"',
]  # fmt: skip
WORDS = ["true", "false", "null", "{}", "[]", "[[]]"]
NAMES = [
    "event_type", "event_timestamp", "attributes", "metrics", "endpoint", "User", "UserId", "Id", "title", "DeviceMake",
    "Attributes", "Demographic", "Platform", "0", "1", "", "a", "\\u0061", "ä", "a.b", "*",
]  # fmt: skip


def joined(members: list[str], brackets: str, space: str) -> str:
    return brackets[0] + space + (space + "," + space).join(members) + space + brackets[1]


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    space = st.sampled_from(["", "", "", " ", "\t"])
    member = st.builds(lambda name, value: f'"{name}":{value}', st.sampled_from(NAMES), inner)
    return st.one_of(
        st.builds(joined, st.lists(member, max_size=6), st.just("{}"), space),
        st.builds(joined, st.lists(inner, max_size=4), st.just("[]"), space),
    )


VALUES = st.recursive(st.sampled_from([*NUMBERS, *TEXTS, *WORDS]), containers, max_leaves=12)
MEMBERS = st.lists(st.builds(lambda name, value: f'"{name}":{value}', st.sampled_from(NAMES), VALUES), max_size=8)
LINES = st.builds(lambda members: joined(members, "{}", "").encode(), MEMBERS)
"""Objects in every spelling: repeated and escaped names, white space, numbers and texts that few languages can hold."""

PATHS = st.lists(st.sampled_from([name for name in NAMES if name and name.isalnum()]), min_size=1, max_size=3).map(
    ".".join
)


def mappings(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.dictionaries(st.sampled_from(["x", "y", "$insert_id", "ä\n'"]), inner, max_size=4),
        st.builds(lambda name, specs: {name: specs}, st.sampled_from(["$first", "$first_id", "$merge"]), several),
        st.builds(
            lambda name, spec: {name: spec}, st.sampled_from(["$time", "$iso", "$milliseconds", "$string"]), inner
        ),
    )


VALUED: list[Any] = [0, "", None, [], {}, [0], True, 1e16, "ä"]
CONSTANTS: list[dict[str, Any]] = [*({"$value": one} for one in VALUED), {"$id": 36}, {"$uuid": "event"}]
SPECS = st.dictionaries(
    st.sampled_from(["x", "y"]), st.recursive(PATHS | st.sampled_from(CONSTANTS), mappings, max_leaves=8), max_size=3
)
ANALYTICS: list[MappedSubscriber] = [Mixpanel(token="k"), Amplitude(api_key="k"), Posthog(api_key="k")]
WITH_EXPONENT = re.compile(rb"\d[eE]|0\.0000")


def told(make: Callable[[], Any]) -> Any:
    """What was made, or the reason why nothing was."""
    try:
        return make()
    except Unfit as reason:
        return f"unfit: {reason}"


def slowly(spec: Mapping[str, Any], line: bytes) -> bytes:
    return to_json(compile_mapping(spec)(Event(line, parse_unusual(line))))


def assert_same(fast: Any, slow: Any) -> None:
    """The same bytes; numbers with an exponent may be spelled otherwise."""
    if fast != slow and isinstance(fast, bytes):
        assert WITH_EXPONENT.search(fast)
        fast = json.dumps(json.loads(fast), ensure_ascii=False, separators=(",", ":")).encode()
    assert fast == slow


@UNHURRIED
@given(LINES)
def test_an_event_is_read_as_json_loads_reads_it(line: bytes) -> None:
    """Values, types, order of names, and which of repeated names wins."""
    fast, slow = told(lambda: parse(line)), told(lambda: parse_unusual(line))
    assert repr(fast) == repr(slow)


@UNHURRIED
@given(SPECS, LINES)
@example({"x": {"$first": ["a", {"$milliseconds": "title"}]}}, b'{"a":1,"title":"never"}')
def test_a_mapping_makes_the_same(spec: dict[str, Any], line: bytes) -> None:
    """Any mapping of any event, compiled and not: the same JSON, or the same reason for none."""
    assert_same(told(lambda: Call(spec)(line)), told(lambda: slowly(spec, line)))


@pytest.mark.parametrize("subscriber", ANALYTICS, ids=lambda one: type(one).__name__)
@UNHURRIED
@given(line=LINES)
@example(line=sample_event(1))
def test_the_default_mappings_make_the_same(subscriber: MappedSubscriber, line: bytes) -> None:
    """What each analytics service gets of any event."""
    mapping = subscriber.default_mapping
    assert as_function([mapping], EventShape([mapping])) is not None
    assert_same(told(lambda: Call(mapping)(line)), told(lambda: slowly(mapping, line)))


GROUPS: list[dict[str, Any]] = [
    {"groupId": "attributes.title", "traits": {"a": "endpoint.Id"}},
    {"groupId": "endpoint.Id"},
]


@pytest.mark.parametrize("legacy", [False, True])
@UNHURRIED
@given(line=LINES)
@example(line=sample_event(1))
@example(line=sample_event(2).replace(b'"click"', b'"pageView"'))
def test_segment_gets_the_same_calls(legacy: bool, line: bytes) -> None:
    """Compiled and not, with groups, with both kinds of ids."""
    segment = Segment(write_key="k", groups=GROUPS, legacy_message_ids=legacy)
    fast, slow = told(lambda: segment.encode(line)), told(lambda: [to_json(call) for call in segment.calls(line)])
    assert len(fast) == len(slow)
    for one, other in zip(fast, slow, strict=True):
        assert_same(one, other)


CONDITIONS = st.dictionaries(
    PATHS, st.lists(st.sampled_from([0, 1, 1.0, True, "a", "", "ä", 2**63]), min_size=1), max_size=3
)


def batch_of(line: bytes) -> Batch:
    return Batch(id="m-0", data=line + b"\n", events=1, files=("f",), date=date(2026, 11, 28))


@UNHURRIED
@given(CONDITIONS, CONDITIONS, LINES)
@example({"a.b": [1]}, {"a.a": ["x"]}, b'{"a":{"b":1},"a":{"a":"x"}}')
@example({"a": ["a"]}, {}, b'{"a":"b","\\u0061":"a"}')
def test_the_same_events_are_chosen(only: dict[str, list[Any]], but: dict[str, list[Any]], line: bytes) -> None:
    """A filter that reads only what it needs chooses as one that reads everything, where that can."""
    wanted = [(paths.split(path), values) for path, values in only.items()]
    unwanted = [(paths.split(path), values) for path, values in but.items()]
    slow = told(lambda: filters._is_chosen(parse_unusual(line), wanted, unwanted))
    selected = filters.select(batch_of(line), only=only, but=but, drop_fields=())
    assert (selected.batch is not None) == slow


DROPPED = st.lists(
    st.lists(st.sampled_from([*(name for name in NAMES if name.isalnum()), "*"]), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


@UNHURRIED
@given(DROPPED, LINES)
@example([["a"], ["b"]], b'{"a":1,"b":{"a":2},"a":3}')
@example([["b", "*"]], b'{"a":" , ","b":[1,[2],{"c":"}"}],"c":0}')
def test_the_same_bytes_are_dropped(dropped: list[list[str]], line: bytes) -> None:
    """What is cut out member by member is what is cut out of the text."""
    fields = [".".join(steps) for steps in dropped]
    selected = filters.select(batch_of(line), only={}, but={}, drop_fields=fields)
    assert selected.batch is not None
    assert selected.batch.data == paths.drop(line, dropped) + b"\n"


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (b'{"a":1,"b":2}', b'{"b":2}'),
        (b'{"b":[{"a":1}, 2],"a":[]}', b'{"b":[{"a":1}, 2]}'),
        (b'{"a":1, "b":2}', None),
        (b'{"a":1,"b":2,"a":3}', None),
        (b'{"\\u0061":1,"b":2}', None),
    ],
)
def test_what_is_left_to_exact_code(line: bytes, left: bytes | None) -> None:
    """White space between members, and names that are repeated or escaped."""
    assert without(line, as_tree([["a"]]) or {}) == left


def test_which_paths_one_look_can_take() -> None:
    """Not one that begins with another one, as an event has one value there and not two."""
    assert reader([["a"], ["a", "b"]]) is None
    read = reader([["a", "b"], ["a", "c"], ["d"]])
    assert read is not None
    assert list(read(b'{"x":[1e999],"a":{"c":2,"b":null}}')) == [None, 2, None]
    for line in (b'{"a":1}', b'{"a":null}', b'{"a":{"b":1e999}}'):
        with pytest.raises(UNUSUAL):
            read(line)


@pytest.mark.parametrize("spec", [{"x": {"$value": float("inf")}}, {1: "a"}, {"x": {"$value": 1e16}}])
def test_a_mapping_that_is_left_to_exact_code(spec: dict[Any, Any]) -> None:
    """What JSON has no form for, or msgspec another one than the mapping's author wrote."""
    assert as_function([spec], EventShape([spec])) is None


def test_every_number_and_text_is_one_of_the_two() -> None:
    """Each spelling is read by msgspec as by Python, or refused by msgspec and left to Python."""
    for text in [*NUMBERS, *TEXTS, *WORDS]:
        line = f'{{"a":{text}}}'.encode()
        try:
            fast = decode(line)
        except UNUSUAL:
            continue
        assert repr(fast) == repr(json.loads(line))
