"""A world whose ledger is a PostgreSQL database: its rows are saved and put back, and the server says who waits."""

import pickle
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select, text

from export_pipeline.ledger import tables as t
from export_pipeline_tests.simulation.canonical import canonical_rows
from export_pipeline_tests.simulation.world import Files, Saved, World


class PostgresWorld(World):
    """A world beside a database. No process of it is alive while its state is saved."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root, url)
        url = url.replace("postgresql:", "postgresql+psycopg2:")
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self._connection = self._engine.connect()

    def waits(self, backend: int) -> bool:
        """Whether the server keeps the backend of this number waiting for another."""
        asked = text("SELECT cardinality(pg_blocking_pids(:backend))")
        return bool(self._connection.execute(asked, {"backend": backend}).scalar())

    def save(self) -> Saved:
        return super().save()._replace(rows=pickle.dumps(self._rows()))

    def restore(self, saved: Saved) -> None:
        super().restore(saved)
        tables = t.metadata.sorted_tables
        # Of a few rows each; to truncate them would make files anew.
        statements = [f"DELETE FROM {table.name}" for table in reversed(tables)]
        rows = pickle.loads(saved.rows)
        for table in tables:
            if "id" in table.c and table.c.id.type.python_type is int:
                known = max((row["id"] for row in rows[table.name]), default=0)
                statements.append(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {known + 1}, false)")
        self._connection.execute(text("; ".join(statements)))
        for table in tables:
            if rows[table.name]:
                self._connection.execute(table.insert(), rows[table.name])

    def _ledger_digest(self, files: Files) -> bytes:
        rows = self._rows()
        tables = {
            name: (list(some[0]) if some else [], [tuple(row.values()) for row in some]) for name, some in rows.items()
        }
        return repr(list(canonical_rows(tables))).encode()

    def close(self) -> None:
        super().close()
        self._connection.close()
        self._engine.dispose()

    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        tables = t.metadata.sorted_tables
        return {one.name: [dict(row) for row in self._connection.execute(select(one)).mappings()] for one in tables}
