"""Ledgers of every released schema, each stored with data in it, become ledgers of today and lose nothing.

``schemas/<revision>.<engine>.sql`` is the dump of a ledger that the code of that revision wrote: a delivered manifest,
a manifest of which a file was set apart, one that is delivered in part, and an ignored overwrite. It is never changed.
"""

import sqlite3
from contextlib import closing
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, select, text

from export_pipeline.ledger import balance, database, deliveries, folding, inspection, manifests, owed, subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger

SCHEMAS = Path(__file__).with_name("schemas")
RELEASED = sorted({path.name.partition(".")[0] for path in SCHEMAS.glob("*.sql")})
NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)


@pytest.fixture(params=RELEASED)
def old_ledger(request: pytest.FixtureRequest, ledger_url: str) -> str:
    """The URL of a ledger as an older version left it."""
    engine = "postgresql" if ledger_url.startswith("postgresql") else "sqlite"
    dump = (SCHEMAS / f"{request.param}.{engine}.sql").read_text(encoding="utf-8")
    if engine == "sqlite":
        with closing(sqlite3.connect(ledger_url)) as connection:
            connection.executescript(dump)
        return ledger_url
    made = create_engine(ledger_url.replace("postgresql:", "postgresql+psycopg2:"))
    with made.begin() as connection:
        connection.exec_driver_sql(dump)
    made.dispose()
    return ledger_url


def rows(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that the stored schemas have."""
    found = {}
    with ledger.read() as tx:
        for table in ("sources", "manifests", "files", "batches", "subscriptions", "deliveries", "acceptances"):
            columns = t.metadata.tables[table].primary_key.columns
            query = select(t.metadata.tables[table]).order_by(*columns)
            found[table] = [dict(row) for row in tx.execute(query).mappings()]
    return found


def test_every_revision_but_the_newest_is_stored() -> None:
    """A schema that becomes an old one is stored with data in it before the next can be added."""
    script = ScriptDirectory.from_config(database.alembic_config())
    known = {one.revision for one in script.walk_revisions()}
    assert known - {database.HEAD} == set(RELEASED)


def test_an_old_ledger_becomes_one_of_today_with_all_its_rows(old_ledger: str) -> None:
    """After the migration tables, columns and indexes are those the code declares, and every row is there."""
    ledger = Ledger(old_ledger)
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        changes = [change for change in compare_metadata(context, t.metadata) if "alembic_version" not in str(change)]
    found = rows(ledger)
    ledger.close()
    assert changes == []
    counts = {table: len(found[table]) for table in found}
    assert counts == {
        "sources": 1,
        "manifests": 6,
        "files": 9,
        "batches": 4,
        "subscriptions": 2,
        "deliveries": 10,
        "acceptances": 5,
    }
    assert [row["key"] for row in found["files"]][2:4] == ["2026/11/01/00/b.gz", "2026/11/01/00/c é.gz"]
    assert {row["folded_at"] for row in found["manifests"]} == {None}


def test_an_old_ledger_goes_on_where_it_was(old_ledger: str) -> None:
    """After the migration the same is owed, half a manifest is still accepted, equations hold, and old days fold."""
    ledger = Ledger(old_ledger)
    with ledger.write() as tx:
        (crm, dwh) = subscriptions.active(tx, 1)
        waiting = {one.subscriber: (one.manifests, one.files) for one in owed.waiting(tx, 1, [crm, dwh])}
        chosen = owed.choose(tx, [crm, dwh], max_files=100, max_retries=10)
        half = [deliveries.delivery(tx, one.id, crm) for one in chosen]
        assert waiting == {"crm": (4, 6), "dwh": (4, 6)}
        assert sum(one.files for one in chosen) == 6
        assert [sorted(one.accepted_batches) for one in half if one and one.accepted_batches] == [[0]]
        assert balance.imbalances(tx, 1) == []
        before = inspection.account(tx, 1)
        assert folding.fold(tx, 1, before=date(2026, 11, 20), most=10, now=NOW) == 1
        assert inspection.account(tx, 1) == before
        set_apart = tx.execute(text("SELECT id FROM manifests WHERE state = 'superseded'")).scalar_one()
        assert [file.key for file in manifests.get(tx, set_apart).files] == ["2026/11/01/00/d.gz"]
    ledger.close()
