"""The mapping language, operator by operator."""

import hashlib
import json
import uuid
from typing import Any

import pytest

from export_pipeline.subscribers.mapping import Event, compile_mapping, extended, is_nothing, to_json
from export_pipeline.subscribers.parsing import Unfit

LINE = json.dumps(
    {
        "type": "click",
        "ms": 1795392000999,
        "negative": -1,
        "number": 7,
        "truth": True,
        "text": "",
        "blank": " \t\u00a0",
        "list": [{"a": 1}, "b"],
        "one": {"x": 1, "y": ["first", "second"], "none": []},
        "two": {"x": 2, "z": None},
        "empty": {},
        "null": None,
    }
).encode()


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("type", "click"),
        ("one.x", 1),
        ("list.0.a", 1),
        ("list.1", "b"),
        ("list.2", None),
        ("list.-1", None),
        ("type.x", None),
        ("nothing.at.all", None),
        ("text", ""),
        ("truth", True),
        ({"a": "type", "b": "nothing", "c": "empty", "d": "text", "e": {"f": "null"}}, {"a": "click", "d": ""}),
        ({"$first": ["nothing", "empty", "null", "number", "type"]}, 7),
        ({"$first": ["text", "type"]}, ""),
        ({"$first": ["nothing"]}, None),
        ({"$merge": ["one", "two", "nothing", "type"]}, {"x": 2, "y": "first", "z": None}),
        ({"$merge": ["two", {"x": "type"}]}, {"x": "click", "z": None}),
        ({"$time": "ms"}, "2026-11-23T00:00:00+00:00"),
        ({"$time": "negative"}, "1969-12-31T23:59:59+00:00"),
        ({"$time": "nothing"}, None),
        ({"$iso": "null"}, None),
        ({"$milliseconds": "ms"}, 1795392000999),
        ({"$first_id": ["nothing", "null", "text", "blank", "truth", "list", "empty", "number", "type"]}, "7"),
        ({"$first_id": ["type"]}, "click"),
        ({"$first_id": ["text"]}, None),
        ({"$iso": "ms"}, "2026-11-23T00:00:00.999+00:00"),
        ({"$iso": "number"}, "1970-01-01T00:00:00.007+00:00"),
        ({"$string": "number"}, "7"),
        ({"$string": "truth"}, "true"),
        ({"$string": "text"}, ""),
        ({"$string": "nothing"}, None),
        ({"$value": ["any", {"thing": "type"}]}, ["any", {"thing": "type"}]),
        (
            {"$insert_id": {"$id": 4}, "$name": "type"},
            {"$insert_id": hashlib.sha256(LINE).hexdigest()[:4], "$name": "click"},
        ),
        ({"$uuid": "event"}, str(uuid.UUID(bytes=hashlib.sha256(LINE).digest()[:16], version=5))),
        ({"$id": 12}, hashlib.sha256(LINE).hexdigest()[:12]),
    ],
)
def test_what_a_mapping_makes(spec: Any, value: Any) -> None:
    """Each form of the language, over one event."""
    assert compile_mapping(spec)(Event(LINE)) == value


@pytest.mark.parametrize(
    "spelling",
    [
        1795856400250,
        1795856400250.9,
        "1795856400250",
        " 1795856400250.0 ",
        "2026-11-28T09:00:00.250Z",
        "2026-11-28T09:00:00.250999999z",
        "2026-11-28t10:00:00.250+01:00",
        "2026-11-28 04:00:00.250-0500",
        "2026-11-28T09:00:00.250",
    ],
)
def test_one_time_in_many_spellings(spelling: object) -> None:
    """Numbers, digits and ISO 8601 in any zone are read as the same instant, and each operator spells it its way."""
    event = Event(json.dumps({"at": spelling}).encode())
    assert compile_mapping({"$milliseconds": "at"})(event) == 1795856400250
    assert compile_mapping({"$iso": "at"})(event) == "2026-11-28T09:00:00.250+00:00"
    assert compile_mapping({"$time": "at"})(event) == "2026-11-28T09:00:00+00:00"


@pytest.mark.parametrize(
    "found",
    [
        '"last Tuesday"',
        '""',
        '" "',
        '"2026-13-28T09:00:00Z"',
        '"2026-11-28T09:00:00+99:00"',
        '"28/11/2026"',
        '"1e12"',
        '"NaN"',
        '"١٧٩٥٨٥٦٤٠٠٢٥٠"',
        '"' + "9" * 5_000 + '"',
        "1e999",
        "-1e17",
        "9" * 5_000,
        "true",
        "[1795856400250]",
        '{"ms":1}',
    ],
)
@pytest.mark.parametrize("operator", ["$time", "$iso", "$milliseconds"])
def test_what_is_no_time_is_refused_and_never_left_out(operator: str, found: str) -> None:
    """An event is not sent without its time; the reason shows what was found, cut, and what is allowed."""
    with pytest.raises(Unfit, match=r" at at is not a time; allowed: milliseconds since 1970") as caught:
        compile_mapping({operator: "at"})(Event(b'{"at":' + found.encode() + b"}"))
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"$id": 65}, "mapping.\\$id: 65 is not a number from 1 to 64"),
        ({"$uuid": "x"}, "mapping.\\$uuid: 'x'; allowed is event"),
        ({"$id": "x"}, "is not a number from 1 to 64"),
        ({"$first": [], "a": "b"}, "mapping: \\$first must be the only key; found \\$first, a"),
        ({"a": {"b": ["x"]}}, "mapping.a.b: \\['x'\\] is neither a path nor an object"),
        ({"a": {"$merge": ["x", ""]}}, "mapping.a.\\$merge.1: '' is not a path"),
    ],
)
def test_a_wrong_mapping_is_told_with_its_place(spec: Any, message: str) -> None:
    """The place leads to the fault in the deployment file."""
    with pytest.raises(ValueError, match=message):
        compile_mapping(spec)


def test_extending() -> None:
    """Given members take the default's place at every depth; null removes; an operator is one piece."""
    default = {"a": {"b": "x", "c": "y"}, "d": {"$merge": ["x"]}, "e": "z"}
    given = {"a": {"c": None, "f": "w"}, "d": {"g": "v"}, "e": {"$value": 1}}
    assert extended(default, given) == {"a": {"b": "x", "f": "w"}, "d": {"g": "v"}, "e": {"$value": 1}}
    assert default == {"a": {"b": "x", "c": "y"}, "d": {"$merge": ["x"]}, "e": "z"}, "the default is left alone"


@pytest.mark.parametrize(
    ("value", "nothing"), [(None, True), ([], True), ({}, True), ("", False), (0, False), (False, False)]
)
def test_what_is_left_out(value: Any, nothing: bool) -> None:
    """Null and empties are left out; an empty text, 0 and false are not."""
    assert is_nothing(value) is nothing


def test_json_of_a_call() -> None:
    """Compact UTF-8; what JSON has no form for is unfit."""
    assert to_json({"a": "ä", "b": [1, 2.0]}) == '{"a":"ä","b":[1,2.0]}'.encode()
    with pytest.raises(Unfit, match="too large"):
        to_json({"a": float("inf")})
    with pytest.raises(Unfit, match="surrogate"):
        to_json({"a": "\ud83e"})
