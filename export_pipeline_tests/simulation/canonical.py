"""The rows of a ledger, so that two states which lead to the same are the same: times by their order, no sums."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from export_pipeline.ledger.counters import Counters

EMPTY_BYTES = 60_000
"""A ledger that is smaller has no schema yet."""

_FOR_METRICS = {*Counters.__slots__, "counted_since", "run_ended_at", "run_succeeded_at"}


def ledger_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each table of an SQLite ledger, as :func:`canonical_rows` has it; nothing where it has no schema yet."""
    if not path.exists() or path.stat().st_size < EMPTY_BYTES:
        return
    tables: dict[str, tuple[list[str], list[Any]]] = {}
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
            found = connection.execute(f"SELECT * FROM {name}")
            tables[name] = [column[0] for column in found.description], found.fetchall()
    yield from canonical_rows(tables)


def canonical_rows(tables: Mapping[str, tuple[list[str], list[Any]]]) -> Iterator[tuple[str, list[str]]]:
    """Each table with its rows, times told by their order; *tables*: name → columns and rows.

    Without what is only kept for metrics: nothing that comes depends on it, and it says how long calls took.
    """
    told = {name: [_told(zip(columns, row, strict=True)) for row in rows] for name, (columns, rows) in tables.items()}
    times = {value for rows in told.values() for row in rows for column, value in row if _is_time(column) and value}
    order = {moment: number for number, moment in enumerate(sorted(times))}
    for name, rows in told.items():
        yield name, sorted(repr([_canonical(*cell, order) for cell in row]) for row in rows)


def _told(row: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(column, value) for column, value in row if column not in _FOR_METRICS]


def _is_time(column: str) -> bool:
    return column.endswith("_at")


def _canonical(column: str, value: Any, order: Mapping[Any, int]) -> Any:
    if _is_time(column) and value:
        return order[value]
    return bool(value) if "run" in column else value
