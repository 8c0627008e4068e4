"""Arrow rows as JSON lines, exactly: a value that JSON has no type for has one defined form, or is an error.

The table "Parquet and ORC" of docs/sources.md lists the forms. Only the worker process imports this module, since it
needs pyarrow (:mod:`export_pipeline.source.columnar_worker`).
"""

import json
import math
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_SECONDS_A_DAY = 86_400
# From 0000-01-01 up to 10000-01-01: what ISO 8601 writes without a sign.
_PLAIN_DAYS = range(-719_528, 2_932_897)
# ECMAScript's form of the other years: a sign and six digits, or more.
_YEAR_DIGITS = 6

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class NoForm(ValueError):
    """A value or a schema that a JSON line cannot represent exactly; the text says which."""


def check_names(schema: "pa.Schema") -> None:
    """Reject a schema in which a JSON object would lose a column.

    Raises:
        NoForm: two columns, or two fields of a column, have the same name.
    """
    _check_unique([field.name for field in schema], "")
    for field in schema:
        _check_type(field.type, field.name)


def lines(batch: "pa.RecordBatch") -> bytes:
    """Each row of *batch* as a JSON line, with its line feed.

    Raises:
        NoForm: a value has no JSON form.
    """
    names = batch.schema.names
    if not names:
        return b"{}\n" * int(batch.num_rows)
    columns = []
    for name, column in zip(names, batch.columns, strict=True):
        try:
            columns.append(values(column))
        except NoForm as error:
            raise NoForm(f"column {name}: {error}") from None
    rows = (_encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))
    text = "".join(f"{row}\n" for row in rows)
    return text.encode()


def values(array: "pa.Array") -> list[Any]:
    """The values of *array* as ``json`` writes them.

    Raises:
        NoForm: a value has no JSON form.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(array)
    for is_kind, convert in _BY_KIND:
        if is_kind(kind):
            return convert(array)
    if types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind) or _is_text(kind):
        return _plain(array)
    raise NoForm(f"the type {kind} has no JSON form")


def _plain(array: "pa.Array") -> list[Any]:
    try:
        found: list[Any] = array.to_pylist()
    except UnicodeDecodeError:
        raise NoForm("a string is not valid UTF-8") from None
    return found


def _check_type(kind: "pa.DataType", place: str) -> None:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        kind = kind.value_type
    fields = [kind.field(n) for n in range(kind.num_fields)]
    if types.is_struct(kind):
        _check_unique([field.name for field in fields], place)
    for field in fields:
        _check_type(field.type, f"{place}.{field.name}")


def _check_unique(names: list[str], place: str) -> None:
    twice = next((name for n, name in enumerate(names) if name in names[:n]), None) if _has_twice(names) else None
    if twice is not None:
        where = f" in {place}" if place else ""
        raise NoForm(f"two columns are named {twice!r}{where}, and a JSON object would hold only one of them")


def _has_twice(names: list[str]) -> bool:
    return len(set(names)) != len(names)


def _is_text(kind: "pa.DataType") -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: "pa.DataType") -> bool:
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _is_any_list(kind: "pa.DataType") -> bool:
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _of_extension(array: "pa.Array") -> list[Any]:
    name, stored = array.type.extension_name, array.storage
    if name == "arrow.uuid":
        return [None if one is None else str(UUID(bytes=one)) for one in stored.to_pylist()]
    if name == "arrow.bool8":
        return [None if one is None else one != 0 for one in stored.to_pylist()]
    return values(stored)


def _of_dictionary(array: "pa.Array") -> list[Any]:
    # Values are shared, not copied: 600 rows with the same 24 MiB string hold it once.
    shared = values(array.dictionary)
    return [None if at is None else shared[at] for at in array.indices.to_pylist()]


def _of_runs(array: "pa.Array") -> list[Any]:
    return values(pc.run_end_decode(array))


def _of_floats(array: "pa.Array") -> list[Any]:
    # Without numpy, pyarrow cannot convert half floats to Python; single precision represents all of them exactly.
    found = (array.cast(pa.float32()) if types.is_float16(array.type) else array).to_pylist()
    if all(one is None or math.isfinite(one) for one in found):
        return list(found)
    return [one if one is None or math.isfinite(one) else _name(one) for one in found]


def _name(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _of_bytes(array: "pa.Array") -> list[Any]:
    return [None if one is None else b64encode(one).decode("ascii") for one in array.to_pylist()]


def _of_decimals(array: "pa.Array") -> list[Any]:
    found: list[Any] = array.cast(pa.string()).to_pylist()
    return found


def _of_durations(array: "pa.Array") -> list[Any]:
    found: list[Any] = array.cast(pa.int64()).to_pylist()
    return found


def _of_intervals(array: "pa.Array") -> list[Any]:
    return [
        None if one is None else {"months": one.months, "days": one.days, "nanoseconds": one.nanoseconds}
        for one in array.to_pylist()
    ]


def _of_times(array: "pa.Array") -> list[Any]:
    unit = 10 ** _DIGITS[array.type.unit]
    found = array.cast(pa.int32() if types.is_time32(array.type) else pa.int64()).to_pylist()
    wrong = next((one for one in found if one is not None and not 0 <= one < _SECONDS_A_DAY * unit), None)
    if wrong is not None:
        raise NoForm(f"{wrong} {array.type.unit} after midnight is not a time of day")
    texts: list[Any] = array.cast(pa.string()).to_pylist()
    return texts


def _of_dates(array: "pa.Array") -> list[Any]:
    days = array.cast(pa.int32() if types.is_date32(array.type) else pa.int64()).to_pylist()
    if types.is_date64(array.type):
        days = [None if one is None else one // (_SECONDS_A_DAY * 1000) for one in days]
    if all(one is None or one in _PLAIN_DAYS for one in days):
        texts: list[Any] = array.cast(pa.string()).to_pylist()
        return texts
    return [None if one is None else _date(one) for one in days]


def _of_stamps(array: "pa.Array") -> list[Any]:
    kind = array.type
    numbers = array.cast(pa.int64()).to_pylist()
    a_day = _SECONDS_A_DAY * 10 ** _DIGITS[kind.unit]
    # A day less at either end, since a time zone may move a timestamp across the border.
    plain = range((_PLAIN_DAYS.start + 1) * a_day, (_PLAIN_DAYS.stop - 1) * a_day)
    if all(one is None or one in plain for one in numbers):
        return _stamps_by_arrow(array)
    mark = "" if kind.tz is None else "Z"
    return [None if one is None else _stamp(one, kind.unit) + mark for one in numbers]


def _stamps_by_arrow(array: "pa.Array") -> list[Any]:
    try:
        texts: list[Any] = array.cast(pa.string()).to_pylist()
    except pa.ArrowInvalid:
        # A time zone that this machine does not know: the instant is the same in UTC.
        texts = array.cast(pa.timestamp(array.type.unit, "UTC")).cast(pa.string()).to_pylist()
    return texts


def _stamp(number: int, unit: str) -> str:
    seconds, fraction = divmod(number, 10 ** _DIGITS[unit])
    days, second = divmod(seconds, _SECONDS_A_DAY)
    digits = f".{fraction:0{_DIGITS[unit]}d}" if _DIGITS[unit] else ""
    return f"{_date(days)} {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}{digits}"


def _date(days: int) -> str:
    """The day *days* days after 1970-01-01; https://howardhinnant.github.io/date_algorithms.html#civil_from_days."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{'-' if year < 0 else '+'}{abs(year):0{_YEAR_DIGITS}d}"
    return f"{shown}-{month:02d}-{day_of_year - (153 * shifted + 2) // 5 + 1:02d}"


def _of_lists(array: "pa.Array") -> list[Any]:
    inner = iter(values(array.flatten()))
    return [None if n is None else _take(inner, n) for n in pc.list_value_length(array).to_pylist()]


def _take(items: Iterator[Any], count: int) -> list[Any]:
    return [next(items) for _ in range(count)]


def _of_maps(array: "pa.Array") -> list[Any]:
    first, last = array.offsets[0].as_py(), array.offsets[len(array)].as_py()
    # Whatever the offset of the array, its keys and items begin with the very first.
    keys = [_key(one) for one in values(array.keys.slice(first, last - first))]
    items = values(array.items.slice(first, last - first))
    offsets = [at - first for at in array.offsets.to_pylist()]
    is_there = array.is_valid().to_pylist()
    return [
        _object(keys[start:stop], items[start:stop]) if there else None
        for there, start, stop in zip(is_there, offsets, offsets[1:], strict=False)
    ]


def _key(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value)


def _object(keys: list[str], items: list[Any]) -> dict[str, Any]:
    found = dict(zip(keys, items, strict=True))
    if len(found) != len(keys):
        raise NoForm("a map has the same key twice, and a JSON object would hold only one of its values")
    return found


def _of_structs(array: "pa.Array") -> list[Any]:
    names = [array.type.field(n).name for n in range(array.type.num_fields)]
    is_there = array.is_valid().to_pylist()
    if not names:
        return [{} if there else None for there in is_there]
    columns = [values(column) for column in array.flatten()]
    return [
        dict(zip(names, row, strict=True)) if there else None
        for there, row in zip(is_there, zip(*columns, strict=True), strict=True)
    ]


def _of_unions(array: "pa.Array") -> list[Any]:
    found = (one.value for one in array)
    return [None if one is None or not one.is_valid else values(pa.array([one], one.type))[0] for one in found]


_BY_KIND: list[tuple[Callable[["pa.DataType"], bool], Callable[["pa.Array"], list[Any]]]] = [
    (types.is_floating, _of_floats),
    (_is_bytes, _of_bytes),
    (types.is_decimal, _of_decimals),
    (types.is_timestamp, _of_stamps),
    (types.is_date, _of_dates),
    (types.is_time, _of_times),
    (types.is_duration, _of_durations),
    (types.is_interval, _of_intervals),
    (types.is_dictionary, _of_dictionary),
    (types.is_run_end_encoded, _of_runs),
    (types.is_map, _of_maps),
    (_is_any_list, _of_lists),
    (types.is_struct, _of_structs),
    (types.is_union, _of_unions),
]
