"""Messages about new objects, taken apart."""

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.printable import printable
from export_pipeline.source.notifications import Notice, read_message
from export_pipeline_tests.source.messages import TEST_MESSAGE, of_event_bridge, of_s3, of_sns, record

AT = datetime(2026, 11, 23, 10, tzinfo=timezone.utc)
ETAG = "d41d8cd98f00b204e9800998ecf8427e"
keys = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=250)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
names = st.sampled_from(
    ["Records", "s3", "object", "bucket", "detail", "Message", "Type", "eventName", "key", "source"]
)


@given(keys, st.integers(0, 1 << 45))
def test_every_way_tells_the_same(key: str, size: int) -> None:
    """Whatever the key, S3's own message, the one through SNS and the one of EventBridge tell of the same object."""
    notice = Notice("acme", key, ETAG, size, AT)
    plain = of_s3(record(key, size=size))
    bridged = of_event_bridge(key, size=size)
    for body in (plain, of_sns(plain), of_sns(of_sns(plain)), bridged, of_sns(bridged)):
        told = read_message(body)
        assert (told.created, told.other, told.wrong) == ((notice,), (), ())


@given(st.text(max_size=200) | json_values.map(json.dumps))
def test_anything_else_is_told_and_never_raised(body: str) -> None:
    """No text makes parsing fail; a message that is not from S3 is reported as malformed, or as one without records."""
    told = read_message(body)
    assert told.created == ()
    assert told.wrong or told.other
    assert all(printable(text) == text for text in (*told.wrong, *told.other))


@given(st.data())
def test_a_message_with_a_part_replaced_by_anything_is_never_raised(data: st.DataObject) -> None:
    """Whatever a part of a real message contains, parsing it finds an object, or reports what is wrong."""
    message = json.loads(data.draw(st.sampled_from([of_s3(record("a")), of_event_bridge("a"), of_sns(TEST_MESSAGE)])))
    _replace(message, data.draw(names), data.draw(json_values))
    told = read_message(json.dumps(message))
    assert all(notice.key and notice.bucket for notice in told.created)


def _replace(node: Any, name: str, value: Any) -> None:
    if isinstance(node, dict):
        for key in node:
            if key == name:
                node[key] = value
            else:
                _replace(node[key], name, value)
    elif isinstance(node, list):
        for item in node:
            _replace(item, name, value)


def test_a_message_of_several_records() -> None:
    """Each record counts by itself: one that cannot be understood keeps no other from being taken."""
    broken = record("c")
    del broken["s3"]["bucket"]
    told = read_message(of_s3(record("a"), broken, record("b"), record("d", event="ObjectRemoved:Delete")))
    assert [notice.key for notice in told.created] == ["a", "b"]
    assert told.other == ("ObjectRemoved:Delete",)
    assert told.wrong == ("it has no s3.bucket.name",)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (TEST_MESSAGE, "s3:TestEvent"),
        (of_sns(TEST_MESSAGE), "s3:TestEvent"),
        (of_s3(record("a", event="ObjectRemoved:DeleteMarkerCreated")), "ObjectRemoved:DeleteMarkerCreated"),
        (of_s3(record("a", event="s3:ObjectTagging:Put")), "ObjectTagging:Put"),
        (of_event_bridge("a", kind="Object Deleted"), "Object Deleted"),
    ],
)
def test_events_that_tell_of_no_new_object(body: str, name: str) -> None:
    """S3's test message, and events other than the making of objects, are understood and tell of no object."""
    told = read_message(body)
    assert (told.created, told.other, told.wrong) == ((), (name,), ())


@pytest.mark.parametrize(
    "event", ["ObjectCreated:Put", "ObjectCreated:Post", "ObjectCreated:Copy", "s3:ObjectCreated:Put"]
)
def test_every_way_of_making_an_object(event: str) -> None:
    """All events of made objects are taken, however their name is written."""
    assert [notice.arrived_at for notice in read_message(of_s3(record("a", event=event))).created] == [AT]


def test_an_upload_in_parts_does_not_tell_when_it_arrived() -> None:
    """The store dates such an object by the beginning of its upload, which the message does not have."""
    bodies = [
        of_s3(record("a", event="ObjectCreated:CompleteMultipartUpload")),
        of_event_bridge("a", reason="CompleteMultipartUpload"),
    ]
    for body in bodies:
        (notice,) = read_message(body).created
        assert (notice.etag, notice.arrived_at) == (ETAG, None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"etag": None}, ("", 1024, AT)),
        ({"etag": '"abc"'}, ("abc", 1024, AT)),
        ({"etag": "x" * 257}, ("", 1024, AT)),
        ({"size": None}, (ETAG, None, AT)),
        ({"size": "1024"}, (ETAG, None, AT)),
        ({"size": True}, (ETAG, None, AT)),
        ({"size": -1}, (ETAG, None, AT)),
        ({"size": 1 << 46}, (ETAG, None, AT)),
        ({"time": None}, (ETAG, 1024, None)),
        ({"time": "yesterday"}, (ETAG, 1024, None)),
        ({"time": "2026-11-23T10:00:00"}, (ETAG, 1024, None)),
        ({"time": "2026-11-23T12:00:00.999+02:00"}, (ETAG, 1024, AT)),
    ],
)
def test_what_a_message_does_not_tell(
    changes: dict[str, Any], expected: tuple[str, int | None, datetime | None]
) -> None:
    """A part that is missing, or is none, is left for the store to tell; it makes no message wrong."""
    (notice,) = read_message(of_s3(record("a", **changes))).created
    assert (notice.etag, notice.size_bytes, notice.arrived_at) == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "it is not a JSON object"),
        ("[" * 100_000, "it is not a JSON object"),
        ('"text"', "it is not a JSON object"),
        ("{}", "it is not an S3 event: an object with nothing"),
        ('{"Records": []}', "it is not an S3 event: an object with Records"),
        ('{"a\\u001b[2J": 1}', "it is not an S3 event: an object with a\\x1b[2J"),
        (of_s3(record("é" * 512 + "a")), "its key has 1,025 bytes; S3 allows at most 1,024: ééé"),
        ('{"hello": 1, "world": 2}', "it is not an S3 event: an object with hello, world"),
        (of_s3(record("a")).replace('"a"', '"%ff%1b"'), "its key is not UTF-8: %ff%1b"),
        (of_event_bridge("\ud800"), "its key is not UTF-8: \\ud800"),
        (of_s3(record("a\0b")), "its key contains the character NUL: a\\x00b"),
        (of_sns(of_sns(of_sns(of_sns(of_s3(record("a")))))), "it is not an S3 event: an object with Type, MessageId"),
    ],
)
def test_what_is_wrong_is_told(body: str, reason: str) -> None:
    """Malformed messages are described in words that contain nothing that could corrupt a log."""
    (told,) = read_message(body).wrong
    assert told.startswith(reason)
    assert printable(told) == told
