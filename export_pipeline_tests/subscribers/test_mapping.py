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
        ({"$time": "type"}, None),
        ({"$time": "truth"}, None),
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
    ("spec", "message"),
    [
        ({"$id": 65}, "mapping.\\$id: 65 is no number from 1 to 64"),
        ({"$uuid": "x"}, "mapping.\\$uuid: 'x'; allowed is event"),
        ({"$id": "x"}, "is no number from 1 to 64"),
        ({"$first": [], "a": "b"}, "mapping: \\$first has to stand alone, not with \\$first, a"),
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
