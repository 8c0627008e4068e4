"""What the tests of the warehouse subscriber read back."""

from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text


def duckdb_rows(file: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table in a DuckDB file, each by column."""
    import duckdb

    if not file.exists():
        return []
    with duckdb.connect(str(file), read_only=True) as connection:
        schema, _, name = table.partition(".")
        known = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", [schema, name]
        ).fetchone()
        if known is None or not known[0]:
            return []
        answer = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in answer.description or []]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def postgres_rows(url: str, table: str = "export.events") -> list[dict[str, Any]]:
    # JSON as text: Python takes no number of more than 4,300 digits.
    """The rows of a table in a PostgreSQL database, each by column."""
    engine = create_engine(
        url.replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool, json_deserializer=str
    )
    with engine.connect() as connection:
        if connection.execute(text(f"SELECT to_regclass('{table}')")).scalar() is None:
            return []
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]


def parquet_rows(folder: Path, table: str = "events") -> list[dict[str, Any]]:
    """The rows of a table that is a folder of Parquet files, each by column."""
    import pyarrow as pa
    import pyarrow.parquet

    files = [pyarrow.parquet.read_table(file) for file in sorted((folder / "export" / table).glob("*.parquet"))]
    found: list[dict[str, Any]] = pa.concat_tables(files, promote_options="permissive").to_pylist() if files else []
    return found


def delta_rows(folder: Path, table: str = "events") -> list[dict[str, Any]]:
    """The rows of a Delta table, each by column."""
    import pyarrow as pa
    from deltalake import DeltaTable

    place = folder / "export" / table
    found: list[dict[str, Any]] = (
        pa.table(DeltaTable(str(place)).to_pyarrow_table()).to_pylist() if place.exists() else []
    )
    return found


def iceberg_rows(folder: Path, table: str = "events") -> list[dict[str, Any]]:
    """The rows of an Iceberg table, each by column."""
    from pyiceberg.table import StaticTable

    versions = sorted((folder / "export" / table / "metadata").glob("*.metadata.json"))
    if not versions:
        return []
    found: list[dict[str, Any]] = StaticTable.from_metadata(str(versions[-1])).scan().to_arrow().to_pylist()
    return found
