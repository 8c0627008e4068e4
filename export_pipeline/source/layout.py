"""How keys encode their date: a strftime pattern that the keys of all files begin with."""

import re
from datetime import date, datetime, timedelta, timezone

from export_pipeline.errors import ConfigurationError

_WIDTHS = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3, "%H": 2, "%M": 2}
_ORDERS = [[*day, *time] for day in (["%Y", "%m", "%d"], ["%Y", "%j"]) for time in ([], ["%H"], ["%H", "%M"])]
_PARTS = re.compile(r"%.?|[^%]+", re.DOTALL)
_LATEST = "\U0010ffff"
_CACHED_PREFIXES = 10_000


class Layout:
    """Reads the date from a key, and finds where a date begins in key order.

    Every part has a fixed width, and coarse parts precede fine ones: key order is date order.

    Args:
        pattern: literal text with %Y, then %m and %d (or %j), then %H, then %M; hour and minute are optional, and %% is
            a percent sign.

    Raises:
        ConfigurationError: it contains no day, another directive, or an order in which keys do not sort by date.
    """

    def __init__(self, pattern: str) -> None:
        parts = _PARTS.findall(pattern)
        directives = [part for part in parts if part[0] == "%" and part != "%%"]
        if directives not in _ORDERS:
            raise ConfigurationError(
                f"layout {pattern!r} has {' '.join(directives) or 'no directive'}; allowed are, in this order: %Y, "
                "then %m and %d (or %j), then %H and %M if keys have them, so that keys sort by date"
            )
        if pattern.startswith("/"):
            raise ConfigurationError(f"layout {pattern!r} begins with a slash; keys below the source's URL do not")
        self.pattern = pattern
        self._parts = ["%" if part == "%%" else part for part in parts]
        self._regex = re.compile("".join(_regex_of(part) for part in self._parts))
        self._width = sum(_WIDTHS.get(part, len(part)) for part in self._parts)
        # The text of the day, including the literal after it: up to the hour, or all of it.
        self._day_parts = self._parts[: self._parts.index("%H")] if "%H" in self._parts else self._parts
        self._moments: dict[str, datetime | None] = {}
        self._dates: dict[str, date | None] = {}

    def __repr__(self) -> str:
        return f"Layout({self.pattern!r})"

    def moment_of(self, key: str) -> datetime | None:
        """The moment, UTC, at which the key's day, hour or minute begins; None if the key does not match."""
        start = key[: self._width]
        if start in self._moments:
            return self._moments[start]
        if len(self._moments) >= _CACHED_PREFIXES:
            self._moments.clear()
        moment = self._moments[start] = self._parse(start)
        return moment

    def date_of(self, key: str) -> date | None:
        """The day that a key encodes; None if it does not match the pattern or the day does not exist."""
        start = key[: self._width]
        try:
            return self._dates[start]
        except KeyError:
            if len(self._dates) >= _CACHED_PREFIXES:
                self._dates.clear()
            moment = self.moment_of(key)
            day = self._dates[start] = None if moment is None else moment.date()
            return day

    def key_floor(self, moment: datetime) -> str:
        """What the keys of that moment begin with: no key of that moment or a later one sorts before it.

        Args:
            moment: with a time zone; what the layout does not encode (minutes, say) is cut off.
        """
        return _text(self._parts, moment.astimezone(timezone.utc))

    def start_after(self, moment: datetime) -> str:
        """A string to list after: it sorts before every key of that moment, and after all but odd keys before it."""
        floor = self.key_floor(moment)
        # The tilde is the last printable ASCII character.
        return floor[:-1] + chr(ord(floor[-1]) - 1) + "~"

    def floor_after(self, start: str) -> str:
        """What keys begin with after a string of :meth:`start_after`; for a key, that key."""
        floor = start[:-2] + chr(ord(start[-2]) + 1) if len(start) > 1 and start.endswith("~") else ""
        moment = self.moment_of(floor)
        return floor if moment is not None and self.start_after(moment) == start else start

    def day_prefix(self, day: date) -> str:
        """What all keys of that day, and no others, begin with."""
        return _text(self._day_parts, _midnight(day))

    def next_day_floor(self, day: date) -> str:
        """A string to list before: it sorts after every key of that day, and before or at the first key of the next."""
        if day == date.max:
            return self.day_prefix(day) + _LATEST
        return self.key_floor(_midnight(day + timedelta(days=1)))

    def _parse(self, start: str) -> datetime | None:
        match = self._regex.match(start)
        if match is None:
            return None
        found = {name: int(digits) for name, digits in match.groupdict().items()}
        try:
            moment = datetime(
                found["Y"],
                found.get("m", 1),
                found.get("d", 1),
                found.get("H", 0),
                found.get("M", 0),
                tzinfo=timezone.utc,
            )
            moment += timedelta(days=found.get("j", 1) - 1)
        except (ValueError, OverflowError):
            return None
        is_day_of_that_year = moment.year == found["Y"] and found.get("j", 1) >= 1
        return moment if is_day_of_that_year else None


def _regex_of(part: str) -> str:
    return f"(?P<{part[1]}>[0-9]{{{_WIDTHS[part]}}})" if part in _WIDTHS else re.escape(part)


def _text(parts: list[str], moment: datetime) -> str:
    # strftime does not pad years below 1000 on every platform.
    values = {
        "%Y": f"{moment.year:04}",
        "%m": f"{moment.month:02}",
        "%d": f"{moment.day:02}",
        "%j": f"{moment.timetuple().tm_yday:03}",
        "%H": f"{moment.hour:02}",
        "%M": f"{moment.minute:02}",
    }
    return "".join(values.get(part, part) for part in parts)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
