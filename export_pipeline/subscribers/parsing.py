"""Events as Python objects; what Python cannot hold is told as a fault of that one event, not of its batch."""

import json
import re
from typing import Any

from export_pipeline.subscribers.decoding import UNUSUAL, decode

_TOO_DEEP = "nested too deeply to be read by this subscriber"
# Half of a surrogate pair can stand in JSON only as an escape.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Unfit(Exception):
    """An event cannot be said in the destination's terms; the message is the reason."""


def parse(line: bytes) -> dict[str, Any]:
    """The event in *line*; a whole number of more digits than Python converts (4,300 by default) becomes infinite.

    Raises:
        Unfit: it is nested too deeply.
    """
    try:
        return decode(line)
    except UNUSUAL:
        return parse_unusual(line)


def parse_unusual(line: bytes) -> dict[str, Any]:
    """:func:`parse`, of what msgspec refuses, and slowly of everything."""
    try:
        return _object(line)
    except RecursionError:
        raise Unfit(_TOO_DEEP) from None
    except ValueError:
        return _object(line, parse_int=_whole_number)


def parse_exactly(line: bytes) -> dict[str, Any]:
    """The event in *line*, every value of which can be stored as it is.

    Raises:
        Unfit: it is nested too deeply, has a whole number of more digits than Python converts, or half of a surrogate
            pair.
    """
    try:
        return decode(line)  # which refuses what cannot be stored, and some of what can
    except UNUSUAL:
        pass
    try:
        event = _object(line)
        if may_hold_surrogates(line):
            json.dumps(event, ensure_ascii=False).encode()
    except RecursionError:
        raise Unfit(_TOO_DEEP) from None
    except UnicodeEncodeError:
        raise Unfit("a text holds half of a surrogate pair") from None
    except ValueError:
        raise Unfit("a whole number has too many digits") from None
    return event


def may_hold_surrogates(line: bytes) -> bool:
    """Whether *line* may hold half of a surrogate pair; a whole one written as two escapes counts, too."""
    return _SURROGATE.search(line) is not None


def encoded(text: str, path: str) -> bytes:
    """*text*, which an event has at *path*, in UTF-8.

    Raises:
        Unfit: it holds half of a surrogate pair, which JSON can write and UTF-8 cannot.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Unfit(f"what it has at {path} holds half of a surrogate pair") from None


def _object(line: bytes, **options: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(line, **options)
    return event


def _whole_number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return float(digits)
