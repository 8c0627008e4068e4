"""A small declarative language that defines how a call to a destination is built from an event.

====================================  =================================================================================
``attributes.title``                  the event's value at this path; a number indexes a list
``{name: …, context: {…}}``           an object with these members
``{$first: [a.path, other.path]}``    the first of these that exists
``{$merge: [a.path, other.path]}``    these objects merged, later ones win; lists in them become their first element
``{$first_id: [a.path, b.path]}``     the first of these that is an id, as text; empty, blank and null ones are skipped
``{$time: a.path}``                   a time as ``YYYY-MM-DDTHH:MM:SS+00:00``, without fractions of a second
``{$iso: a.path}``                    the same with milliseconds, ``YYYY-MM-DDTHH:MM:SS.mmm+00:00``
``{$milliseconds: a.path}``           the same as a whole number of milliseconds since 1970
``{$string: a.path}``                 text; numbers are converted
``{$value: anything}``                this constant value
``{$id: 32}``                         this many hexadecimal characters (at most 64) of the SHA-256 of the event's bytes
``{$uuid: event}``                    the same hash as a UUID
====================================  =================================================================================

A time in the event is a number of milliseconds since 1970, the same as text, or ISO 8601 such as
``2026-11-28T09:00:00.250Z`` (UTC if it has no time zone). An event with anything else there is refused: without its
time the destination would use the time of arrival.

Any other name that begins with ``$`` is an ordinary name, such as ``$insert_id``. Missing and null values, empty lists
and empty objects are omitted; empty text is kept. A number with an exponent may be written differently than in the
event (``1e16`` for ``1e+16``), which is the same number.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from export_pipeline.subscribers import moments, paths
from export_pipeline.subscribers.parsing import Unfit, parse

Reader = Callable[["Event"], Any]
"""Event → a value; None if there is none."""

_EPOCH = datetime(1970, 1, 1)  # in UTC; an aware one would print its time zone
LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, the end of datetime's range."""
_TOO_LARGE = "a number is too large for this destination"


class Event:
    """An event with values derived from it.

    Args:
        fields: of *line*, if it is already parsed.

    Attributes:
        line: its bytes.
        fields: the object.

    Raises:
        Unfit: Python cannot parse it.
    """

    def __init__(self, line: bytes, fields: dict[str, Any] | None = None) -> None:
        self.line = line
        self.fields = parse(line) if fields is None else fields

    @cached_property
    def sha256(self) -> str:
        """64 hexadecimal characters."""
        return hashlib.sha256(self.line).hexdigest()


def compile_mapping(spec: object, place: str = "mapping") -> Reader:
    """A function that builds from an event what *spec* defines.

    Raises:
        ValueError: *spec* is invalid; the message names the *place*.
    """
    if isinstance(spec, str):
        return _path(spec, place)
    if not isinstance(spec, Mapping):
        raise ValueError(f"{place}: {spec!r} is neither a path nor an object")
    operators = [key for key in spec if key in _OPERATORS]
    if not operators:
        return _object({key: compile_mapping(inner, f"{place}.{key}") for key, inner in spec.items()})
    if len(spec) > 1:
        raise ValueError(f"{place}: {operators[0]} must be the only key; found {', '.join(map(str, spec))}")
    return _OPERATORS[operators[0]](spec[operators[0]], f"{place}.{operators[0]}")


def extended(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """*default* with members replaced by those of *given*; null removes one, objects are merged at every depth."""
    result = dict(default)
    for key, value in given.items():
        if value is None:
            result.pop(key, None)
        elif _is_object(value) and _is_object(result.get(key)):
            result[key] = extended(result[key], value)
        else:
            result[key] = value
    return result


def to_json(call: Mapping[str, Any]) -> bytes:
    """*call* as compact JSON.

    Raises:
        Unfit: it contains a number that JSON cannot represent: one beyond 1.8e308 in the event.
    """
    try:
        return json.dumps(call, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        raise Unfit("a text contains half of a surrogate pair") from None
    except ValueError:
        raise Unfit(_TOO_LARGE) from None


def is_nothing(value: object) -> bool:
    """Whether *value* is omitted: None, an empty list or an empty object; not False, 0 or an empty text."""
    return value is None or (isinstance(value, list | dict) and not value)


def _is_object(spec: object) -> bool:
    return isinstance(spec, Mapping) and not any(key in _OPERATORS for key in spec)


def _path(path: str, place: str) -> Reader:
    try:
        steps = paths.split(path)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return lambda event: paths.look_up(event.fields, steps)


def _object(members: Mapping[str, Reader]) -> Reader:
    readers = list(members.items())

    def read(event: Event) -> dict[str, Any]:
        values = {}
        for key, reader in readers:
            value = reader(event)
            if value or not is_nothing(value):
                values[key] = value
        return values

    return read


def _first(specs: object, place: str) -> Reader:
    readers = _each(specs, place)

    def read(event: Event) -> Any:
        return next((value for reader in readers if not is_nothing(value := reader(event))), None)

    return read


def _first_id(specs: object, place: str) -> Reader:
    readers = _each(specs, place)

    def read(event: Event) -> str | None:
        for reader in readers:
            found = reader(event)
            if isinstance(found, str):
                if found and not found.isspace():
                    return found
            elif (number := numeric_id(found)) is not None:
                return number
        return None

    return read


def numeric_id(found: object) -> str | None:
    """The number *found*, as text; None if it is not a number.

    Raises:
        Unfit: it is too large for JSON.
    """
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return _as_json(found)


def _merge(specs: object, place: str) -> Reader:
    readers = _each(specs, place)

    def read(event: Event) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for reader in readers:
            found = reader(event)
            if isinstance(found, dict):
                merged.update(found)
        return {key: value[0] if isinstance(value, list) else value for key, value in merged.items() if value != []}

    return read


def _time(spec: object, place: str) -> Reader:
    return _of_value(spec, place, time_of(spec))


def _iso(spec: object, place: str) -> Reader:
    return _of_value(spec, place, iso_of(spec))


def _milliseconds(spec: object, place: str) -> Reader:
    return _of_value(spec, place, milliseconds_of(spec))


def _of_value(spec: object, place: str, made: Callable[[Any], Any]) -> Reader:
    reader = compile_mapping(spec, place)
    return lambda event: made(reader(event))


def time_of(spec: object) -> Callable[[Any], str | None]:
    """``$time`` of a value at *spec*; raises Unfit if it is not a time."""
    exactly = _moment(spec, lambda milliseconds: f"{_second(milliseconds // 1000)}+00:00")
    return lambda found: (
        f"{_second(found // 1000)}+00:00" if type(found) is int and 0 <= found <= LAST_MS else exactly(found)
    )


def iso_of(spec: object) -> Callable[[Any], str | None]:
    """``$iso`` of a value at *spec*; raises Unfit if it is not a time."""
    exactly = _moment(spec, lambda ms: f"{_second(ms // 1000)}.{ms % 1000:03d}+00:00")
    return lambda found: (
        f"{_second(found // 1000)}.{found % 1000:03d}+00:00"
        if type(found) is int and 0 <= found <= LAST_MS
        else exactly(found)
    )


def milliseconds_of(spec: object) -> Callable[[Any], int | None]:
    """``$milliseconds`` of a value at *spec*; raises Unfit if it is not a time."""

    def known(milliseconds: int) -> int:
        _second(milliseconds // 1000)
        return milliseconds

    exactly = _moment(spec, known)
    # The usual case; everything else is checked.
    return lambda found: found if type(found) is int and 0 <= found <= LAST_MS else exactly(found)


T = TypeVar("T")


def _moment(spec: object, spelled: Callable[[int], T]) -> Callable[[Any], T | None]:
    def made(found: Any) -> T | None:
        if found is None:
            return None
        milliseconds = found if type(found) is int else moments.milliseconds(found)
        if milliseconds is not None:
            try:
                return spelled(int(milliseconds // 1))
            except (OverflowError, ValueError):
                pass  # out of datetime's range
        raise Unfit(
            f"{_shown(found)} at {spec} is not a time; allowed: milliseconds since 1970, as a number or as text, "
            "and ISO 8601 such as 2026-11-28T09:00:00Z"
        )

    return made


@lru_cache(maxsize=4096)  # events that arrive together happened within a few seconds
def _second(seconds: int) -> str:
    """*seconds* after 1970 as ``YYYY-MM-DDTHH:MM:SS``.

    Raises:
        OverflowError: the year is out of datetime's range.
    """
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def _shown(found: object) -> str:
    """An invalid value for a message: at most 60 characters of it."""
    text = repr(found)
    return text if len(text) <= 60 else text[:59] + "…"


def _string(spec: object, place: str) -> Reader:
    return _of_value(spec, place, as_text)


def as_text(found: object) -> str | None:
    """*found* as text; None if there is nothing.

    Raises:
        Unfit: it contains a number that JSON cannot represent.
    """
    if isinstance(found, str):
        return found
    return None if is_nothing(found) else _as_json(found)


def _as_json(found: object) -> str:
    try:
        return json.dumps(found, ensure_ascii=False, allow_nan=False)
    except ValueError:  # an infinite number, or one with more digits than Python converts
        raise Unfit(_TOO_LARGE) from None


def _value(value: object, place: str) -> Reader:
    return lambda event: value


def _id(characters: object, place: str) -> Reader:
    if not isinstance(characters, int) or not 1 <= characters <= 64:
        raise ValueError(f"{place}: {characters!r} is not a number from 1 to 64")
    return lambda event: event.sha256[:characters]


def _uuid(of: object, place: str) -> Reader:
    if of != "event":
        raise ValueError(f"{place}: {of!r}; allowed is event")
    return lambda event: uuid_of(event.sha256)


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def uuid_of(digits: str) -> str:
    """The first 128 bits of a hash as a UUID of version 5, with version and variant set according to RFC 9562."""
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:32]}"


def _each(specs: object, place: str) -> list[Reader]:
    if not isinstance(specs, Sequence) or isinstance(specs, str):
        raise ValueError(f"{place}: {specs!r} is not a list")
    return [compile_mapping(spec, f"{place}.{number}") for number, spec in enumerate(specs)]


_OPERATORS: dict[str, Callable[[object, str], Reader]] = {
    "$first": _first,
    "$first_id": _first_id,
    "$merge": _merge,
    "$time": _time,
    "$iso": _iso,
    "$milliseconds": _milliseconds,
    "$string": _string,
    "$value": _value,
    "$id": _id,
    "$uuid": _uuid,
}
