"""Parses notifications of new objects: S3's own, the same inside an SNS envelope, and EventBridge's.

The formats are those of "Event message structure" and "EventBridge event message structure" in the Amazon S3 User
Guide. Anyone who may send to the queue can put anything into it, so nothing is assumed: a malformed message is reported
in the result, and never raises.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote_plus

from export_pipeline.printable import printable
from export_pipeline.source.etag import clean

TEST_EVENT = "s3:TestEvent"
_CREATED, _CREATED_IN_EVENT_BRIDGE = "ObjectCreated:", "Object Created"
# For a multipart upload, the store lists when it began; the message says when it ended.
_MULTIPART = "CompleteMultipartUpload"
# EventBridge may send to SNS, and SNS to a queue.
_MOST_ENVELOPES = 3
_SHOWN_CHARACTERS = 100
# S3's limits, and what the ledger's indexes and sums have room for: a forged message must not make planning fail.
_MOST_KEY_BYTES = 1_024
_MOST_ETAG_CHARACTERS = 256
_MOST_BYTES = 1 << 46


@dataclass(frozen=True, slots=True)
class Notice:
    """What a message says about one object that was written.

    Attributes:
        key: the complete key, decoded.
        etag: without quotes; empty: the message has none.
        size_bytes: None: the message has none.
        arrived_at: as in a listing, in whole seconds; None: the message has none.
    """

    bucket: str
    key: str
    etag: str
    size_bytes: int | None
    arrived_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessageContent:
    """A parsed message.

    Attributes:
        created: the objects that were written.
        other: names of events that do not announce a new object.
        wrong: what was malformed, in words; empty: nothing was.
    """

    created: tuple[Notice, ...] = ()
    other: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def read_message(body: str) -> MessageContent:
    """The content of a message with this *body*. Never raises."""
    created: list[Notice] = []
    other: list[str] = []
    wrong: list[str] = []
    for found in _events(body, _MOST_ENVELOPES):
        try:
            told = _read_event(found)
        except _NotUnderstood as error:
            wrong.append(str(error))
            continue
        if isinstance(told, Notice):
            created.append(told)
        else:
            other.append(told)
    return MessageContent(tuple(created), tuple(other), tuple(wrong))


class _NotUnderstood(Exception):
    pass


def _events(body: str, envelopes: int) -> Iterator[Any]:
    """The events inside a message, however it is wrapped; for anything else, one item that is not an event."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        yield None
    elif found.get("Type") == "Notification" and isinstance(found.get("Message"), str) and envelopes:
        yield from _events(found["Message"], envelopes - 1)
    elif isinstance(found.get("Records"), list) and found["Records"]:
        yield from found["Records"]
    else:
        yield found


def _read_event(event: Any) -> Notice | str:
    """The object that was written, or the name of another event."""
    if not isinstance(event, Mapping):
        raise _NotUnderstood("it is not a JSON object")
    if event.get("Event") == TEST_EVENT:
        return TEST_EVENT
    if event.get("source") == "aws.s3":
        return _of_event_bridge(event)
    if "eventName" not in event:
        raise _NotUnderstood(f"it is not an S3 event: an object with {_shown(', '.join(map(str, event)))}")
    name = _text(event, "eventName").removeprefix("s3:")
    if not name.startswith(_CREATED):
        return _shown(name)
    return Notice(
        bucket=_needed(event, "s3", "bucket", "name"),
        key=_decoded(_needed(event, "s3", "object", "key")),
        etag=_etag(_text(event, "s3", "object", "eTag")),
        size_bytes=_size(_at(event, "s3", "object", "size")),
        arrived_at=None if name.endswith(_MULTIPART) else _moment(_text(event, "eventTime")),
    )


def _of_event_bridge(event: Mapping[str, Any]) -> Notice | str:
    name = _text(event, "detail-type")
    if name != _CREATED_IN_EVENT_BRIDGE:
        return _shown(name)
    is_multipart = _text(event, "detail", "reason") == _MULTIPART
    return Notice(
        bucket=_needed(event, "detail", "bucket", "name"),
        # Unlike in S3's own messages, it is not encoded.
        key=_storable(_needed(event, "detail", "object", "key")),
        etag=_etag(_text(event, "detail", "object", "etag")),
        size_bytes=_size(_at(event, "detail", "object", "size")),
        arrived_at=None if is_multipart else _moment(_text(event, "time")),
    )


def _at(event: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(event, Mapping):
            return None
        event = event.get(name)
    return event


def _text(event: Any, *path: str) -> str:
    """The text at *path*; empty if there is none."""
    found = _at(event, *path)
    return found if isinstance(found, str) else ""


def _needed(event: Any, *path: str) -> str:
    found = _text(event, *path)
    if not found:
        raise _NotUnderstood(f"it has no {'.'.join(path)}")
    return found


def _decoded(key: str) -> str:
    try:
        return _storable(unquote_plus(key, errors="strict"))
    except UnicodeDecodeError:
        raise _NotUnderstood(f"its key is not UTF-8: {_shown(key)}") from None


def _storable(key: str) -> str:
    """*key*, if S3 and the ledger can store it."""
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise _NotUnderstood(f"its key is not UTF-8: {_shown(key)}") from None
    if size_bytes > _MOST_KEY_BYTES:
        raise _NotUnderstood(f"its key has {size_bytes:,} bytes; S3 allows at most {_MOST_KEY_BYTES:,}: {_shown(key)}")
    if "\0" in key:
        raise _NotUnderstood(f"its key contains the character NUL: {_shown(key)}")
    return key


def _etag(etag: str) -> str:
    """Without quotes; empty if no store would assign such an etag."""
    return clean(etag) if len(etag) <= _MOST_ETAG_CHARACTERS and etag.isascii() and etag.isprintable() else ""


def _size(size: Any) -> int | None:
    return size if type(size) is int and 0 <= size < _MOST_BYTES else None


def _moment(text: str) -> datetime | None:
    """The whole second, as in listings; None if *text* is not a moment with a time zone."""
    try:
        # Python 3.10 does not parse Z.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment.astimezone(timezone.utc).replace(microsecond=0) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _shown(text: str) -> str:
    """The beginning of *text*, safe for a log, whatever it contains."""
    return printable(text[:_SHOWN_CHARACTERS]) or "nothing"
