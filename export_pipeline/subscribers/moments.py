"""Parse the time of an event, in the formats that events use."""

import re
from datetime import datetime, timedelta, timezone
from functools import cache

from pydantic import TypeAdapter, ValidationError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS = timedelta(milliseconds=1)
_DIGITS = re.compile(r"[+-]?\d{1,30}(?:\.\d*)?", re.ASCII)
# pydantic accepts more than ISO 8601 as a time, such as digits (whose unit it guesses): it gets only dates.
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def milliseconds(found: object) -> float | None:
    """Milliseconds since 1970 of a time in an event; None if it is not a time.

    Args:
        found: a number of milliseconds, the same as text, or ISO 8601; UTC if it has no time zone.
    """
    if isinstance(found, int | float):
        return None if isinstance(found, bool) else found
    return _read(found.strip()) if isinstance(found, str) else None


def _read(text: str) -> float | None:
    if _DIGITS.fullmatch(text):
        return float(text) if "." in text else int(text)
    if not _DATE.match(text):
        return None
    try:
        moment = _reader().validate_strings(text)
    except ValidationError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) / _MS


@cache
def _reader() -> TypeAdapter[datetime]:
    return TypeAdapter(datetime)
