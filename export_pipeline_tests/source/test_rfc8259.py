"""The slow reader agrees with RFC 8259, and with Python's json as far as that does."""

import json
import re
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipeline.source.rfc8259 import Fault, compact, read_object, read_value, utf8_fault

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)
OBJECTS = st.dictionaries(st.text(max_size=5), JSON, max_size=5)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), ("\t,\n", "\r: ")])


@st.composite
def object_texts(draw: st.DrawFn) -> bytes:
    """A JSON object as text: with or without escapes, compact or with all kinds of white space."""
    value = draw(OBJECTS)
    indent = draw(st.sampled_from([None, 0, 3]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()), separators=draw(SEPARATORS), indent=indent).encode(
        "utf-8", "surrogatepass"
    )


@st.composite
def nearly_objects(draw: st.DrawFn) -> bytes:
    """A JSON object in which a few bytes were changed, put in, or taken out."""
    text = bytearray(draw(object_texts()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [b"", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u", b"1", b"0", b".", b"e", b"-"]
            )
            | st.sampled_from([b"\0", b"\n", b" ", b"\xc3", b"\xa9", b"\xed\xa0\x80", b"NaN", b"tru", b"true", b"/"])
        )
    return bytes(text)


def python_object_end(text: bytes) -> int | None:
    """Where Python's json, kept to RFC 8259, finds the end of the object at the beginning of *text*."""

    def no_json(constant: str) -> NoReturn:
        raise ValueError(constant)

    decoder = json.JSONDecoder(parse_constant=no_json, parse_int=len)
    try:
        value, end = decoder.raw_decode(text.decode("latin-1"))
        text[:end].decode()
    except ValueError:
        return None
    return end if isinstance(value, dict) else None


def object_end(text: bytes) -> int | None:
    found = read_object(text, 0, len(text), max_depth=100)
    return None if isinstance(found, Fault) else found


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nearly_objects())
def test_agrees_with_python(text: bytes) -> None:
    """What Python's json takes for an object, without its extensions, is one, and ends there; nothing else is."""
    assert object_end(text) == python_object_end(text)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(object_texts())
def test_everything_before_the_end_is_cut(text: bytes) -> None:
    """An object of which any number of bytes is missing at its end is known to be merely cut."""
    assert object_end(text + b"x") == len(text)
    for stop in range(len(text)):
        found = read_value(text, 0, stop, max_depth=100)
        assert isinstance(found, Fault)
        assert found.cut
        assert found.at <= stop


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(object_texts())
def test_compacting_keeps_tokens(text: bytes) -> None:
    """Compacting gives the same tokens, without white space between them, and does nothing the second time."""
    short = compact(text)
    token = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s"]')
    assert token.findall(short) == token.findall(text)
    assert token.sub(b"", short) == b""
    assert compact(short) == short


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        (b'{"a":"\\u00zz"}', 6, "invalid escape in a string"),
        (b'{"a":"b\x01"}', 7, "a control character in a string must be escaped (\\u0001)"),
        (b'{"a":[1,2,x]}', 10, "not a JSON value"),
        (b'{"a":{"b":1},"c"}', 16, "':' is missing"),
        (b'{"a":1}'[:6], 6, "unexpected end of file (truncated?)"),
        (b'{"a":tr', 5, "unexpected end of file (truncated?)"),
        (b'{"a":"\xff"}', 6, "not valid UTF-8"),
        (b'["a"]', 0, "not a JSON object"),
    ],
)
def test_a_fault_names_the_byte(text: bytes, at: int, reason: str) -> None:
    """A fault says which byte is the first that does not belong there."""
    found = read_object(text, 0, len(text), max_depth=9)
    assert isinstance(found, Fault)
    assert (found.at, found.reason) == (at, reason)


@pytest.mark.parametrize("filler", [b"", b"a" * 65_535, b"\xc3\xa9" * 40_000])
def test_utf8_is_checked_across_steps(filler: bytes) -> None:
    """A character across the border of two steps is read completely; a wrong byte is found at its position."""
    good = filler + "é€😀".encode() * 3
    assert utf8_fault(good, 0, len(good)) is None
    for bad in (b"\xe2\x82", b"\x80", b"\xff", b"\xed\xb0\x80"):
        found = utf8_fault(good + bad + b"x", 0, len(good) + len(bad) + 1)
        assert found is not None
        assert found.at == len(good)
    assert utf8_fault(b"\xff" + good + b"\xff", 1, 1 + len(good)) is None
    cut = utf8_fault(good, 0, len(good) - 2)
    assert cut is not None
    assert cut.at == len(good) - 4


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 1000])
@pytest.mark.parametrize("repeated", [b'"a":1,', b'"\\n":"\\u00e9",', b'"":[1,"x",{}],'])
def test_runs_of_any_length(repeated: bytes, count: int) -> None:
    """Members are taken in runs of limited length; how many there are makes no difference."""
    text = b"{" + (repeated * count)[:-1] + b"}"
    assert object_end(text) == len(text)
    assert object_end(b"{" + repeated * count + b"}") is None


def test_a_long_text_takes_time_in_proportion() -> None:
    """Megabytes of escapes, digits, brackets or members are read in one go, without a stack or memory for each."""
    for text in (
        b'{"a":"' + b"\\\\" * 2_000_000 + b'"}',
        b'{"a":' + b"1" * 4_000_000 + b"}",
        b'{"a":[' + b"1," * 2_000_000 + b"1]}",
        b'{"a":' + b" " * 4_000_000 + b"1}",
    ):
        assert object_end(text) == len(text)
