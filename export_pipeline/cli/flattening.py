"""An event as one row: nested objects become dotted columns."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

Cell = str | int | float | bool | None
"""A value in a row. A list, and anything nested too deeply, is JSON text."""

MORE = "_more"
"""The column for values beyond the maximum number of columns: a JSON object of dotted name → value."""

_MOST_LEVELS = 32
# Python refuses to convert longer integers.
_MOST_DIGITS = 4_000
_PLACES_A_COLUMN = 8


@dataclass(slots=True)
class _Place:
    """One path: its column, if it ever had a value, and the paths below it."""

    name: str
    number: int | None = None
    below: dict[str, "_Place"] = field(default_factory=dict)


class Columns:
    """The columns of a table, in order of first appearance.

    Args:
        most: maximum number of columns, not counting ``_more``. Keys made of ids would add columns with each event.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: list[str] = []
        self._more: int | None = None
        self._top = _Place("")
        self._places = 0

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self._names)

    def row(self, line: bytes) -> list[Cell]:
        r"""The event *line* as values of the columns known so far; its new columns are added at the end.

        A column's name is the path to the value, joined by dots; a dot within a key is written ``\.``. An empty
        object yields no cell.
        """
        row: list[Cell] = [None] * len(self._names)
        rest: dict[str, Cell] = {}
        self._fill(row, rest, _PARSER.decode(line.decode()), self._top, 1)
        if rest:
            if self._more is None:
                self._more = self._new_column(MORE, row)
            row[self._more] = _json(rest)
        return row

    def _fill(self, row: list[Cell], rest: dict[str, Cell], value: dict[str, Any], above: _Place, level: int) -> None:
        """Put the values in *value* into *row*, and those without a column into *rest*."""
        for key, inner in value.items():
            is_object = isinstance(inner, dict)
            if is_object and not inner:
                continue
            place = above.below.get(key) or self._place(key, above)
            if is_object and level < _MOST_LEVELS:
                self._fill(row, rest, inner, place, level + 1)
                continue
            if place.number is None and not self._is_full() and place.name != MORE:
                place.number = self._new_column(place.name, row)
            cell = _json(inner) if isinstance(inner, dict | list) else inner
            if place.number is None:
                rest[place.name] = cell
            else:
                row[place.number] = cell

    def _place(self, key: str, above: _Place) -> _Place:
        """A path seen for the first time; remembered unless the table is full."""
        escaped = key.replace("\\", "\\\\").replace(".", "\\.")
        place = _Place(escaped if above is self._top else f"{above.name}.{escaped}")
        if not self._is_full():
            above.below[key] = place
            self._places += 1
        return place

    def _is_full(self) -> bool:
        columns = len(self._names) - (self._more is not None)
        # Objects without any value count, too.
        return columns >= self._most or self._places >= _PLACES_A_COLUMN * self._most

    def _new_column(self, name: str, row: list[Cell]) -> int:
        self._names.append(name)
        row.append(None)
        return len(self._names) - 1


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _int(text: str) -> int | str:
    return int(text) if len(text) <= _MOST_DIGITS else text


def _float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


_PARSER = json.JSONDecoder(parse_int=_int, parse_float=_float)
