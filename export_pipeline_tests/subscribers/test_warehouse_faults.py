"""The warehouse subscriber is killed at any moment, sends again, and meets destinations that are out of order."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.subscribers.warehouse_errors import meaning
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.subscribers.warehouses import delta_rows, duckdb_rows, parquet_rows, postgres_rows

# dlt's own affairs with pandas, pyarrow and DuckDB; none is about this package.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Rows = Callable[[str], list[dict[str, Any]]]
"""Name of a table → its rows."""


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> str:
    """The URL of a PostgreSQL server, with a password, since dlt insists on one."""
    return postgres_url.replace("export@", "export:s3cr3t-password@")


@pytest.fixture(
    params=["duckdb", "postgres", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("parquet", "delta"))]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[dict[str, Any], Rows]]:
    """Options for an empty destination, and what reads it."""
    if request.param == "postgres":
        with new_database(request.getfixturevalue("postgres")) as url:
            yield {"destination": "postgres", "connection": url}, lambda table: postgres_rows(url, f"export.{table}")
    elif request.param == "duckdb":
        file = tmp_path / "lake.duckdb"
        yield {"destination": "duckdb", "url": str(file)}, lambda table: duckdb_rows(file, f"export.{table}")
    else:
        lake = {"destination": "filesystem", "url": str(tmp_path / "lake")}
        if request.param == "delta":
            yield lake | {"table_format": "delta"}, lambda table: delta_rows(tmp_path / "lake", table)
        else:
            yield lake, lambda table: parquet_rows(tmp_path / "lake", table)


@contextmanager
def opened(options: dict[str, Any]) -> Iterator[Warehouse]:
    warehouse = Warehouse(**options)
    try:
        yield warehouse
    finally:
        warehouse.close()


def deliver(options: dict[str, Any], batch: Batch) -> Sent:
    with opened({"retry_for_seconds": 0, **options}) as warehouse:
        return send_to(warehouse, batch)


EVENTS = 20
DYING = """
import json, os, signal, sys
from contextlib import contextmanager
from export_pipeline.subscribers import warehouse_duckdb, warehouse_folder, warehouse_native, warehouse_parquet
from export_pipeline.subscribers import warehouse_postgres
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.testing import batch_of, sample_event

def dies(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

def dies_after(do):
    return lambda *arguments, **options: (do(*arguments, **options), dies())

where, options = sys.argv[1], json.loads(sys.argv[2])
if "table_format" in options:
    from dlt.load.load import Load
    from dlt.pipeline.pipeline import Pipeline
else:
    class Load: pass
    class Pipeline: load = None
if where == "before the load":
    Pipeline.load = warehouse_native._grow = warehouse_parquet.ParquetFiles._note = dies
elif where == "before the load is noted":
    Load.complete_package = dies
    for session in (warehouse_duckdb._DuckdbSession, warehouse_postgres._PostgresSession):
        session.write = dies_after(session.write)
    warehouse_folder._LocalLake.create = dies_after(warehouse_folder._LocalLake.create)
else:
    Pipeline.load = dies_after(Pipeline.load)
    for loader in (warehouse_native.Database, warehouse_parquet.ParquetFiles):
        loader.load_many = dies_after(loader.load_many)
Warehouse(**options).deliver(batch_of([sample_event(n) for n in range(int(sys.argv[3]))]))
"""


@pytest.mark.parametrize(
    "place",
    ["duckdb", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("postgres", "parquet", "delta"))],
    indirect=True,
)
def test_killed_at_any_moment_it_leaves_neither_a_duplicate_nor_a_gap(
    place: tuple[dict[str, Any], Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL before rows are written, before they are committed or noted, and after that: the repeat makes it whole.

    Nothing of what was under way stays on the disk either.
    """
    options, rows = place
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for where in ("before the load", "before the load is noted", "after the load"):
        command = [sys.executable, "-W", "ignore", "-c", DYING, where, json.dumps(options), str(EVENTS)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(list(temporary.glob("export-pipeline-dlt-*"))) == ("table_format" in options)
    assert deliver(options, batch_of([sample_event(n) for n in range(EVENTS)])).accepted == EVENTS
    assert len(rows("events")) == len({row["_event_id"] for row in rows("events")}) == EVENTS
    assert list(temporary.glob("export-pipeline-dlt-*")) == []


def test_nested_objects_become_tables_where_told(place: tuple[dict[str, Any], Rows]) -> None:
    """With ``max_table_nesting`` a list is a child table, and a repeat doubles neither table."""
    options, rows = place
    batch = batch_of([b'{"a":1,"list":[{"x":1},{"x":2}]}', b'{"a":2,"list":[{"x":3}]}'])
    for _ in range(2):
        deliver({**options, "max_table_nesting": 1}, batch)
    assert sorted(row["a"] for row in rows("events")) == [1, 2]
    assert sorted(row["x"] for row in rows("events__list")) == [1, 2, 3]


def test_a_column_that_comes_late_in_a_large_batch_costs_no_row(tmp_path: Path) -> None:
    """dlt would begin a second file of the same name, and overwrite the first."""
    events = [b'{"a":%d}' % n for n in range(6_000)] + [b'{"a":6000,"late":1}']
    options = {"destination": "filesystem", "url": str(tmp_path), "max_table_nesting": 1}
    for _ in range(2):
        deliver(options, batch_of(events))
        assert sorted(row["a"] for row in parquet_rows(tmp_path)) == list(range(6_001))


def test_files_that_would_overwrite_each_other_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If dlt is configured to write several files of a batch, nothing counts as accepted; the error says what to do."""
    monkeypatch.setenv("NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS", "10")
    options = {"destination": "filesystem", "url": str(tmp_path), "max_table_nesting": 1}
    with pytest.raises(Blocked, match=r"more than one file of the table events .*: do not set data_writer\.file"):
        deliver(options, batch_of([b'{"a":%d}' % n for n in range(50)]))


def test_a_table_that_somebody_dropped_is_made_anew(tmp_path: Path) -> None:
    """What its columns held is forgotten with it: the members that come now get the names."""
    import duckdb

    file = tmp_path / "lake.duckdb"
    options = {"destination": "duckdb", "url": str(file)}
    deliver(options, batch_of([b'{"userId":1}'], "b-1"))
    with duckdb.connect(str(file)) as connection:
        connection.execute("DROP TABLE export.events")
    assert deliver(options, batch_of([b'{"user_id":"2"}'], "b-2")).accepted == 1
    assert [row["user_id"] for row in duckdb_rows(file, "export.events")] == ["2"]


def test_a_table_of_dlt_that_somebody_dropped_blocks(tmp_path: Path) -> None:
    """No event is at fault: none is quarantined, and the error says how to have the table created again."""
    import duckdb

    file = tmp_path / "lake.duckdb"
    options = {"destination": "duckdb", "url": str(file), "max_table_nesting": 1}
    deliver(options, batch_of([b'{"a":1}'], "b-1"))
    with duckdb.connect(str(file)) as connection:
        connection.execute("DROP TABLE export.events")
    with pytest.raises(Blocked, match=r"events does not exist.* drop these tables, too"):
        deliver(options, batch_of([b'{"a":2}'], "b-2"))
    with duckdb.connect(str(file)) as connection:
        connection.execute("DROP TABLE export._dlt_version; DROP TABLE export._dlt_pipeline_state")
    assert deliver(options, batch_of([b'{"a":2}'], "b-2")).accepted == 1
    assert [row["a"] for row in duckdb_rows(file, "export.events")] == [2]


def test_a_database_that_somebody_has_open_is_tried_later(tmp_path: Path) -> None:
    """DuckDB lets one process in: the batch waits until the other has gone."""
    file = tmp_path / "lake.duckdb"
    script = f"import duckdb, sys; c = duckdb.connect({str(file)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(TryLater, match="Conflicting lock is held"):
            deliver({"destination": "duckdb", "url": str(file)}, batch_of([b"{}"]))
        other.communicate()
    assert deliver({"destination": "duckdb", "url": str(file)}, batch_of([b"{}"])).accepted == 1


def asked(url: str, *statements: str) -> list[Any]:
    """What the last of these statements gives."""
    engine = create_engine(
        url.replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        results = [connection.execute(text(statement)) for statement in statements]
        return [row[0] for row in results[-1]] if results[-1].returns_rows else []


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("ALTER DATABASE {name} SET default_transaction_read_only = on", None),
        ("ALTER DATABASE {name} SET statement_timeout = 1", None),
        ("ALTER TABLE export.events ADD CONSTRAINT small CHECK (a < 2)", [1]),
    ],
)
def test_what_is_wrong_with_a_database_is_no_fault_of_the_events(
    postgres: str, statement: str, refused: list[int] | None
) -> None:
    """A read-only or an overloaded database quarantines nothing; what a constraint of the table refuses is refused."""
    with new_database(postgres) as url:
        options: dict[str, Any] = {"destination": "postgres", "connection": url}
        assert deliver(options, batch_of([b'{"a":1}'], "b-1")).accepted == 1
        asked(url, statement.format(name=url.rpartition("/")[2]))
        batch = batch_of([b'{"a":1,"n":2}', b'{"a":2}'], "b-2")
        if refused is not None:
            assert list(deliver(options, batch).refused) == refused
            return
        with pytest.raises((Blocked, TryLater)) as caught:
            deliver(options, batch)
        assert "s3cr3t-password" not in str(caught.value)


def test_postgres_finds_the_events_of_a_batch_by_an_index(postgres: str) -> None:
    """Looking whether an event is there already does not read the whole table."""
    with new_database(postgres) as url:
        deliver({"destination": "postgres", "connection": url}, batch_of([b"{}"]))
        query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'export' AND tablename = 'events'"
        assert [definition for definition in asked(url, query) if "(_event_id)" in definition]


def test_a_table_that_somebody_has_locked_is_tried_later_and_loaded_once(postgres: str) -> None:
    """A load that hangs ends in TryLater after ``timeout_seconds``; without the lock, every event is there once."""
    with new_database(postgres) as url:
        options: dict[str, Any] = {"destination": "postgres", "connection": url}
        deliver(options, batch_of([b'{"a":1}'], "b-1"))
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool)
        batch = batch_of([b'{"a":2}'], "b-2")
        with opened({**options, "timeout_seconds": 1.5}) as warehouse:
            with engine.begin() as connection:
                connection.execute(text("LOCK TABLE export.events IN ACCESS EXCLUSIVE MODE"))
                for _ in range(2):
                    with pytest.raises(TryLater, match=r"postgres: the load did not finish within 1\.5 s"):
                        warehouse.deliver(batch)
            assert send_to(warehouse, batch, sleep=lambda seconds: None).accepted == 1
        assert sorted(row["a"] for row in postgres_rows(url)) == [1, 2]


def test_nobody_answers() -> None:
    """A database that takes the connection and says nothing holds the run up no longer than ``timeout_seconds``."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me:s3cr3t-password@127.0.0.1:{silent.getsockname()[1]}/x"
        with opened({"destination": "postgres", "connection": url, "timeout_seconds": 1}) as warehouse:
            with pytest.raises(TryLater, match="did not finish within 1 s"):
                warehouse.check()
            with pytest.raises(TryLater, match="did not finish within 1 s"):
                warehouse.deliver(batch_of([b"{}"]))
            silent.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"destination": "postgres"},
            r"missing field\(s\): `database`, `password`, `username`, `host`; set url, connection or credentials as "
            r"described in dlt.s documentation$",
        ),
        ({"destination": "postgres", "connection": "postgres-at-home"}, "Could not parse SQLAlchemy URL"),
        ({"destination": "postgres", "credentials": {"hots": "x"}}, "postgres: "),
    ],
)
def test_what_is_wrong_with_the_credentials_is_told_in_a_sentence(options: dict[str, Any], message: str) -> None:
    """Blocked names what is missing and where it belongs, not all the places where dlt looked for it."""
    with opened(options) as warehouse, pytest.raises(Blocked, match=message) as caught:
        warehouse.deliver(batch_of([b"{}"]))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("An error occurred (SignatureDoesNotMatch) when calling the ListObjectsV2 operation", Blocked),
        ("An error occurred (ExpiredToken) when calling PutObject", Blocked),
        ("The specified bucket does not exist (NoSuchBucket)", Blocked),
        ("An error occurred (SlowDown) when calling PutObject", TryLater),
        ('duplicate key value violates unique constraint "events__event_id_key"', TryLater),
        ('new row for relation "events" violates check constraint "small"', Refused),
        ("Could not convert string 'x' to INT64", Refused),
        ("server closed the connection unexpectedly", TryLater),
    ],
)
def test_what_drivers_say(said: str, kind: type[Exception]) -> None:
    """Texts of real drivers, each in the class that its cause belongs to, however deep dlt has wrapped it."""
    try:
        try:
            raise OSError(said)
        except OSError as error:
            raise RuntimeError("Pipeline execution failed") from error
    except RuntimeError as error:
        found = meaning(error, "filesystem", ["s3cr3t"])
    assert type(found) is kind
    assert said in str(found)
