"""What a tick or a run asks of the ledger costs the same however old the ledger is: no query walks a whole table."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Engine, event

from benchmarks.ledger_fill import Shape, file_of, fill
from benchmarks.ledger_tick import MadeUpSource, tick
from export_pipeline.ledger import inspection, sources
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.figures import export_figures
from export_pipeline.steps.retention import fold_old_days

NOW = datetime(2026, 11, 23, 23, tzinfo=timezone.utc)
SHAPE = Shape("file:///made-up", date(2026, 11, 23), days=6, files_a_day=300)
# They hold a row for each source, or for each subscriber, and never more.
SMALL = {"sources", "subscriptions", "alembic_version"}
# They hold only what waits, or could not be read; where all was delivered they are empty however old the ledger.
OF_WHAT_WAITS = {"ix_deliveries_owed", "ix_manifests_unreadable", "ix_manifests_troubled"}


@contextmanager
def listening(engine: Engine) -> Iterator[dict[str, Any]]:
    """Statement → its parameters, of everything that is asked inside the block."""
    asked: dict[str, Any] = {}

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "UPDATE", "DELETE", "INSERT"):
            asked[statement] = parameters[0] if many and isinstance(parameters, list) else parameters

    event.listen(engine, "before_cursor_execute", keep)
    yield asked
    event.remove(engine, "before_cursor_execute", keep)


def walks(ledger: Ledger, statement: str, parameters: Any) -> list[str]:
    """The steps of a statement's plan that visit every row of a table or index."""
    return (_walks_of_sqlite if ledger.is_sqlite else _walks_of_postgres)(ledger, statement, parameters)


def _walks_of_sqlite(ledger: Ledger, statement: str, parameters: Any) -> list[str]:
    with ledger.engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    names = set(_aliases(statement)) - SMALL
    return [
        step
        for step in plan
        if step.startswith("SCAN ") and step.split()[1] in names and not OF_WHAT_WAITS & set(step.split())
    ]


def _aliases(statement: str) -> list[str]:
    """Names under which the statement knows tables."""
    return [word.strip("(),").lower() for word in statement.split()]


def _walks_of_postgres(ledger: Ledger, statement: str, parameters: Any) -> list[str]:
    with ledger.engine.connect() as connection, connection.begin():
        # Small tables are read as a whole whatever indexes there are. Told not to, the planner does so only where
        # no index would help, which is where a large one would be walked.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar()
    found: Any = json.loads(plan) if isinstance(plan, str) else plan
    return [
        f"{node['Node Type']} on {node['Relation Name']} {node.get('Index Name', '')}"
        for node in _nodes(found[0]["Plan"])
        if "Scan" in node["Node Type"]
        and node.get("Relation Name", "sources") not in SMALL
        and "Index Cond" not in node
        and node.get("Index Name") not in OF_WHAT_WAITS
    ]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def test_no_query_of_a_tick_or_a_run_walks_a_table(ledger: Ledger) -> None:
    """Listing, planning, choosing, reading, delivering, folding, sensor, metrics and a run's progress use indexes."""
    fill(ledger, SHAPE, now=NOW)
    source = MadeUpSource(SHAPE)
    cursor = tick(ledger, source, file_of(SHAPE.last_day, SHAPE.files_a_day - 1).key, run_id="first")
    fold_old_days(source, ledger, keep_days=4, now=NOW)
    with listening(ledger.engine) as asked:
        tick(ledger, source, cursor, run_id="second")
        fold_old_days(source, ledger, keep_days=3, now=NOW + timedelta(hours=2))
        with ledger.read() as tx:
            inspection.run_standings(tx, "second")
            export_figures(tx, 1, now=NOW)
    assert len(asked) > 25
    found = {statement: walks(ledger, statement, asked[statement]) for statement in asked}
    assert [f"{walked}: {statement}" for statement, walked in found.items() if walked] == []


def test_a_walk_is_noticed(ledger: Ledger) -> None:
    """What the test above looks for is there where a query has no index."""
    fill(ledger, SHAPE, now=NOW)
    with listening(ledger.engine) as asked, ledger.read() as tx:
        sources.source_id(tx, SHAPE.url)
        tx.exec_driver_sql("SELECT count(*) FROM files WHERE size_bytes > 1")
        tx.exec_driver_sql("SELECT m.id FROM manifests m ORDER BY m.id")
    walked = {statement for statement in asked if walks(ledger, statement, asked[statement])}
    assert len(asked) == 3
    assert len(walked) == 2
