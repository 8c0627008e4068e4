"""Parse events into Python objects; what Python cannot represent is an error of that event, not of its batch."""

import json
import re
from typing import Any

from export_pipeline.subscribers.decoding import UNUSUAL, decode

_TOO_DEEP = "nested too deeply to be read by this subscriber"
# In JSON, half of a surrogate pair can only be written as an escape.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Unfit(Exception):
    """An event does not fit the destination's format; the message is the reason."""


def parse(line: bytes) -> dict[str, Any]:
    """Parse the event in *line*; a whole number with more digits than Python converts (4,300) becomes infinite.

    Raises:
        Unfit: it is nested too deeply.
    """
    try:
        return decode(line)
    except UNUSUAL:
        return parse_unusual(line)


def parse_unusual(line: bytes) -> dict[str, Any]:
    """:func:`parse` for what msgspec refuses; works for every event, but slowly."""
    try:
        return _object(line)
    except RecursionError:
        raise Unfit(_TOO_DEEP) from None
    except ValueError:
        return _object(line, parse_int=_whole_number)


def parse_exactly(line: bytes) -> dict[str, Any]:
    """Parse the event in *line*, if all its values can be stored unchanged.

    Raises:
        Unfit: it is nested too deeply, or contains a whole number with more digits than Python converts, or half of a
            surrogate pair.
    """
    try:
        return decode(line)  # refuses everything that cannot be stored, and some of what can
    except UNUSUAL:
        pass
    try:
        event = _object(line)
        if may_hold_surrogates(line):
            json.dumps(event, ensure_ascii=False).encode()
    except RecursionError:
        raise Unfit(_TOO_DEEP) from None
    except UnicodeEncodeError:
        raise Unfit("a text contains half of a surrogate pair") from None
    except ValueError:
        raise Unfit("a whole number has too many digits") from None
    return event


def may_hold_surrogates(line: bytes) -> bool:
    """Whether *line* may contain half of a surrogate pair; a complete pair written as two escapes counts, too."""
    return _SURROGATE.search(line) is not None


def encoded(text: str, path: str) -> bytes:
    """Encode *text*, which an event has at *path*, as UTF-8.

    Raises:
        Unfit: it contains half of a surrogate pair, which JSON can represent and UTF-8 cannot.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Unfit(f"its value at {path} contains half of a surrogate pair") from None


def _object(line: bytes, **options: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(line, **options)
    return event


def _whole_number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return float(digits)
