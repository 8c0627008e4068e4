"""Events as rows of a table: every top-level member a column, what is nested as JSON."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Refused
from export_pipeline.subscribers.parsing import Unfit, parse_exactly

if TYPE_CHECKING:
    import pyarrow as pa

OWN_COLUMNS = ("_event_id", "_batch_id", "_file", "_exported_at")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_PLAIN = frozenset({"text", "bigint", "double", "bool"})


def rows_of(batch: Batch, exported_at: datetime) -> list[dict[str, Any]]:
    """Each event with ``_event_id``, ``_batch_id``, ``_file`` and ``_exported_at``.

    ``_event_id`` is the SHA-256 of the event's bytes; where a batch holds the same bytes again, with their number.

    Raises:
        Refused: these events cannot be stored as they are.
    """
    rows: list[dict[str, Any]] = []
    unfit: dict[int, str] = {}
    files = batch.files[0] if len(batch.files) == 1 else f"{batch.files[0]} … {batch.files[-1]}"
    seen: dict[str, int] = {}
    for position, line in enumerate(batch.lines()):
        try:
            row = parse_exactly(line)
        except Unfit as reason:
            unfit[position] = str(reason)
            continue
        event_id = hashlib.sha256(line).hexdigest()
        number = seen[event_id] = seen.get(event_id, 0) + 1
        for name in OWN_COLUMNS:
            if name in row:
                row[_beside(name, name)] = row.pop(name)
        row["_event_id"] = event_id if number == 1 else f"{event_id}-{number}"
        row["_batch_id"] = batch.id
        row["_file"] = files
        row["_exported_at"] = exported_at
        rows.append(row)
    if unfit:
        raise Refused("some events cannot be stored as they are", events=unfit)
    return rows


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows, column by column.

    Attributes:
        table: an Arrow table; JSON is text in it.
        types: name of each column that is made of events → its type in dlt's words.
    """

    table: "pa.Table"
    types: Mapping[str, str]


def arrow_rows(batch: Batch, exported_at: datetime, known: Mapping[str, str], normalize: Callable[[str], str]) -> Rows:
    """The rows of *batch* as an Arrow table, about four times as fast for dlt as objects.

    Args:
        batch: the events.
        exported_at: for ``_exported_at``.
        known: name of each column the table has already → its type. A value of another type goes into a column
            ``<name>__v_<type>``, as dlt has it.
        normalize: name of a member → name of a column.

    Raises:
        Refused: these events cannot be stored as they are.
    """
    import pyarrow as pa

    rows = rows_of(batch, exported_at)
    own = {name: [row.pop(name) for row in rows] for name in OWN_COLUMNS}
    names = _column_names(rows, normalize)
    types: dict[str, str] = {}
    columns: dict[str, list[Any]] = {}
    for member, name in names.items():
        values = [row.get(member) for row in rows]
        wanted = known.get(name) or _common_type(values)
        for number, value in enumerate(values):
            if value is None:
                continue
            try:
                column, kind, stored = _placed(name, wanted, value)
            except ValueError:
                reason = f"{member}: a number in it is too large for JSON"
                raise Refused("an event cannot be stored as it is", events={number: reason}) from None
            if column not in columns:
                types[column], columns[column] = kind, [None] * len(rows)
            columns[column][number] = stored
    arrow_types = {"bigint": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}
    arrays: dict[str, pa.Array] = {
        name: pa.array(values, type=arrow_types.get(types[name], pa.string())) for name, values in columns.items()
    }
    arrays |= {name: pa.array(own[name], type=pa.string()) for name in OWN_COLUMNS[:3]}
    arrays["_exported_at"] = pa.array(own["_exported_at"], type=pa.timestamp("us", tz="UTC"))
    return Rows(pa.table(arrays), types)


def _column_names(rows: Sequence[dict[str, Any]], normalize: Callable[[str], str]) -> dict[str, str]:
    """Member → column. Members whose names become the same, such as userId and user_id, get a column each."""
    names: dict[str, str] = {}
    taken = set(OWN_COLUMNS)
    members = {member for row in rows for member in row}
    # A member that is called just like its column keeps the name.
    for member in sorted(members, key=lambda member: (not member.strip() or normalize(member) != member, member)):
        name = normalize(member) if member.strip() else "unnamed"
        if name in taken or name.startswith("_dlt_"):
            name = _beside(name, member)
        taken.add(name)
        names[member] = name
    return names


def _beside(name: str, member: str) -> str:
    """A column for *member* whose *name* is taken."""
    return f"{name}_x{hashlib.sha256(member.encode()).hexdigest()[:6]}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "bigint" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "double"
    return "text" if isinstance(value, str) else "json"


def _common_type(values: Sequence[Any]) -> str:
    """The type of a new column: that of its first value, but whole and other numbers together are double."""
    kinds = [_kind(value) for value in values if value is not None]
    if not kinds:
        return "text"
    return "double" if set(kinds) == {"bigint", "double"} else kinds[0]


def _placed(name: str, wanted: str, value: Any) -> tuple[str, str, Any]:
    """Column, type and stored form of *value* where the column *name* is of type *wanted*."""
    kind = _kind(value)
    if wanted == "json":
        return name, "json", _json(value)
    if wanted == "double" and kind == "bigint":
        return name, "double", float(value)
    stored = _json(value) if kind == "json" else str(value) if kind == "text" else value
    if wanted in _PLAIN and kind != wanted:
        return f"{name}__v_{kind}", kind, stored
    return name, kind, stored


def _json(value: Any) -> str:
    return _ENCODER.encode(value)
