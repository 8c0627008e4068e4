"""Columns of rows as Arrow arrays, from which DuckDB, PostgreSQL, Parquet files and dlt are loaded."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from types import NoneType
from typing import Any

import msgspec

Values = tuple[str, str, Sequence[Any]]
"""Name of a column, its kind (that of a member, or ``timestamp``), and a value for each row; JSON is text or raw."""

_WRITTEN = {msgspec.Raw, NoneType}


def arrow_type(kind: str) -> Any:
    """The Arrow type for values of a *kind*; JSON is text."""
    import pyarrow as pa

    types = {"bigint": pa.int64(), "double": pa.float64(), "bool": pa.bool_(), "timestamp": pa.timestamp("us", "UTC")}
    return types.get(kind, pa.string())


def arrow_array(kind: str, values: Sequence[Any]) -> Any:
    """*values* of one *kind*; None for missing ones."""
    import pyarrow as pa

    if kind == "json":
        found = set(map(type, values))
        if found <= _WRITTEN:
            return _joined(values, has_none=NoneType in found)
        values = [json_text(value) for value in values]
    elif kind == "timestamp" and values and values.count(values[0]) == len(values):  # a batch has only one
        return pa.repeat(pa.scalar(values[0], arrow_type(kind)), len(values))
    return pa.array(values, type=arrow_type(kind))


def arrow_table(columns: Iterable[Values]) -> Any:
    """*columns* as an Arrow table."""
    import pyarrow as pa

    return pa.table({name: arrow_array(kind, values) for name, kind, values in columns})


def json_text(value: str | msgspec.Raw | None) -> str | None:
    """JSON as text."""
    return str(value, "utf-8") if isinstance(value, msgspec.Raw) else value


def _joined(values: Sequence[Any], *, has_none: bool) -> Any:
    """An array of *values*, which are slices of the events' lines, without copying each."""
    import pyarrow as pa

    there = None
    if has_none:
        there = pa.array([value is not None for value in values]).buffers()[1]
        values = [b"" if value is None else value for value in values]
    offsets = array("i", accumulate(map(len, values), initial=0))
    made = pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(values)), there)
    made.validate(full=True)
    return made
