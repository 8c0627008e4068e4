"""The warehouse subscriber continues a table that dlt created, and distinguishes a destination's errors from an
event's.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers import warehouse_postgres
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.subscribers.warehouse_errors import meaning_of_duckdb
from export_pipeline.testing import batch_of
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.subscribers.warehouses import duckdb_rows, postgres_rows

# dlt's own affairs with pandas, pyarrow and DuckDB; none is about this package.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

EARLIER = [
    b'{"userId":"of userId","a":1,"c":{"x":1}}',
    b'{"userId":"of userId","a":2}',
    b'{"user_id":"of user_id","a":3}',
]


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> str:
    """The URL of a PostgreSQL server, with a password, since dlt insists on one."""
    return postgres_url.replace("export@", "export:s3cr3t-password@")


@pytest.fixture(params=["duckdb", "postgres"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    if request.param == "duckdb":
        yield {"destination": "duckdb", "url": str(tmp_path / "lake.duckdb")}
        return
    with new_database(request.getfixturevalue("postgres")) as url:
        yield {"destination": "postgres", "connection": url}


def deliver(options: dict[str, Any], batch: Batch, **further: Any) -> Sent:
    warehouse = Warehouse(**{"retry_for_seconds": 0, **options, **further})
    try:
        return send_to(warehouse, batch)
    finally:
        warehouse.close()


def rows_of(options: dict[str, Any]) -> list[dict[str, Any]]:
    if options["destination"] == "duckdb":
        return duckdb_rows(Path(options["url"]), "export.events")
    return postgres_rows(options["connection"])


def load_by_dlt(options: dict[str, Any], batch: Batch, folder: Path) -> None:
    """As the version before did: an Arrow table, merged by the SHA-256 of the event's bytes."""
    import dlt
    import pyarrow as pa

    lines = batch.lines()
    events = [json.loads(line) for line in lines]
    table = pa.table(
        {
            "user_id_x6ccb21": [event.get("userId") for event in events],
            "user_id": [event.get("user_id") for event in events],
            "a": [event["a"] for event in events],
            "c": [json.dumps(event["c"]) if "c" in event else None for event in events],
            "_event_id": [hashlib.sha256(line).hexdigest() for line in lines],
            "_batch_id": [batch.id] * len(lines),
            "_file": ["file"] * len(lines),
        }
    )
    place = options.get("url") or options["connection"]
    pipeline = dlt.pipeline(
        pipeline_name="export_export_events",
        destination=getattr(dlt.destinations, options["destination"])(credentials=place),
        dataset_name="export",
        pipelines_dir=str(folder / "dlt"),
    )
    hints: dict[str, Any] = {"c": {"data_type": "json"}, "_event_id": {"nullable": False, "unique": True}}
    if options["destination"] == "duckdb":
        del hints["_event_id"]["unique"]
    make: Any = dlt.resource  # its overloads know no hints that are put together
    resource = make(
        [table],
        name="events",
        columns=hints,
        write_disposition={"disposition": "merge", "strategy": "insert-only"},
        primary_key="_event_id",
    )
    pipeline.run(resource)


def test_a_table_that_dlt_made_is_continued(options: dict[str, Any], tmp_path: Path) -> None:
    """Its columns stay with their members, and a batch that was loaded but not recorded before adds nothing."""
    batch = batch_of(EARLIER, "m-1")
    load_by_dlt(options, batch, tmp_path)
    assert deliver(options, batch).details == ("0 rows inserted, 3 were already in the table",)
    halves = [batch.holding(EARLIER[:2], id="m-1-r0-2", positions=range(2)), batch]
    assert [deliver(options, one).details for one in halves] == [
        ("0 rows inserted, 2 were already in the table",),
        ("0 rows inserted, 3 were already in the table",),
    ]
    # The same events in another batch are other events.
    assert deliver(options, batch_of([*EARLIER, b'{"UserId":"of UserId","c":{"x":2},"d":1.5}'], "m-2")).accepted == 4
    rows = rows_of(options)
    assert len(rows) == 7
    assert {row["user_id"] for row in rows} - {None} == {"of user_id"}
    assert {row["user_id_x6ccb21"] for row in rows} - {None} == {"of userId"}
    assert [row["user_id_xad2636"] for row in rows if row["user_id_xad2636"]] == ["of UserId"]
    assert sorted(json.loads(row["c"])["x"] for row in rows if row["c"]) == [1, 1, 2]


def test_by_content_a_table_that_dlt_made_knows_its_events(options: dict[str, Any], tmp_path: Path) -> None:
    """With ``dedupe: content`` the ids are those of the version before, whatever batch an event came with."""
    load_by_dlt(options, batch_of(EARLIER, "m-1"), tmp_path)
    sent = deliver(options, batch_of([*EARLIER, b'{"a":4}'], "m-2"), dedupe="content")
    assert sent.details == ("1 rows inserted, 3 were already in the table",)


def test_a_table_with_dlts_own_columns_is_continued(options: dict[str, Any]) -> None:
    """Of what was loaded with ``max_table_nesting``, where ``_dlt_id`` may not be null."""
    deliver(options, batch_of([b'{"a":1,"c":{"x":1}}'], "b-1"), max_table_nesting=1)
    assert deliver(options, batch_of([b'{"a":2,"c":{"x":1}}'], "b-2")).accepted == 1
    assert sorted(row["a"] for row in rows_of(options)) == [1, 2]
    assert len({row["_dlt_id"] for row in rows_of(options)}) == 2


def test_dlt_does_not_go_on_with_a_table_of_ours(options: dict[str, Any]) -> None:
    """It would not know the columns; the error says what to do, and nothing is loaded."""
    deliver(options, batch_of([b'{"a":1}'], "b-1"))
    with pytest.raises(Blocked, match=r"was loaded without max_table_nesting.* use another table_name"):
        deliver(options, batch_of([b'{"a":2}'], "b-2"), max_table_nesting=1)
    other = {"max_table_nesting": 1, "table_name": "other"}
    assert deliver(options, batch_of([b'{"a":2}'], "b-2"), **other).accepted == 1
    assert [row["a"] for row in rows_of(options)] == [1]


def run(url: str, statement: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


RAISING = """
CREATE FUNCTION export.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.a = 2 THEN RAISE EXCEPTION 'as told' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON export.events FOR EACH ROW EXECUTE FUNCTION export.refuse();
"""


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("53100", Blocked),  # disk full
        ("42501", Blocked),  # no permission
        ("25006", Blocked),  # read-only
        ("40P01", TryLater),  # deadlock
        ("53200", TryLater),  # out of memory
        ("57014", TryLater),  # cancelled
        ("22003", None),  # out of range
        ("23514", None),  # check constraint
        ("54000", None),  # a limit of the program
        ("P0001", None),  # a trigger's own
    ],
)
def test_what_postgres_says(postgres: str, code: str, outcome: type[Exception] | None) -> None:
    """What the destination lacks quarantines nothing; what is wrong with an event quarantines that event alone."""
    with new_database(postgres) as url:
        options = {"destination": "postgres", "connection": url}
        deliver(options, batch_of([b'{"a":1}'], "b-0"))
        run(url, RAISING.format(code=code))
        batch = batch_of([b'{"a":1}', b'{"a":2}', b'{"a":3}'], "b-1")
        if outcome is None:
            assert list(deliver(options, batch).refused) == [1]
            assert sorted(row["a"] for row in postgres_rows(url)) == [1, 1, 3]
            return
        with pytest.raises(outcome, match="as told"):
            deliver(options, batch)
        assert [row["a"] for row in postgres_rows(url)] == [1]


NEEDED = "ALTER TABLE export.events ADD tenant int DEFAULT 1; ALTER TABLE export.events ALTER tenant SET NOT NULL;"
NO_DEFAULT = "ALTER TABLE export.events ALTER tenant DROP DEFAULT;"
ALWAYS_RAISING = RAISING.replace("NEW.a = 2", "true").format(code="P0001")


@pytest.mark.parametrize("change", [NEEDED + NO_DEFAULT, ALWAYS_RAISING], ids=["a column", "a trigger"])
def test_a_change_that_refuses_every_event_blocks(postgres: str, change: str) -> None:
    """A column or trigger that somebody added quarantines no batch; the events come when it is gone."""
    with new_database(postgres) as url:
        options = {"destination": "postgres", "connection": url}
        deliver(options, batch_of([b'{"a":1}'], "b-0"))
        run(url, change)
        batch = batch_of([b'{"a":3}', b'{"a":4,"b":"x"}'], "b-1")
        with pytest.raises(Blocked, match=r"tenant|as told"):
            deliver(options, batch)
        run(url, "DROP TRIGGER IF EXISTS refuse ON export.events; ALTER TABLE export.events DROP IF EXISTS tenant")
        assert deliver(options, batch).accepted == 2


def test_a_column_that_refuses_every_event_of_duckdb_blocks(tmp_path: Path) -> None:
    """As in PostgreSQL."""
    import duckdb

    file = tmp_path / "lake.duckdb"
    options = {"destination": "duckdb", "url": str(file)}
    deliver(options, batch_of([b'{"a":1}'], "b-0"))
    with duckdb.connect(str(file)) as connection:
        connection.execute(NEEDED + NO_DEFAULT)
    batch = batch_of([b'{"a":3}', b'{"a":4,"b":"x"}'], "b-1")
    with pytest.raises(Blocked, match="tenant"):
        deliver(options, batch)
    with duckdb.connect(str(file)) as connection:
        connection.execute("ALTER TABLE export.events ALTER tenant DROP NOT NULL")
    assert deliver(options, batch).accepted == 2


def test_a_duckdb_file_that_is_read_elsewhere_is_waited_for(tmp_path: Path) -> None:
    """Whether another process reads or writes it: DuckDB then advises to open it in read-only mode."""
    import duckdb

    folder = tmp_path / "read-only"
    folder.mkdir()
    file = folder / "lake.duckdb"
    options = {"destination": "duckdb", "url": str(file)}
    duckdb.connect(str(file)).close()
    program = f"import duckdb; c = duckdb.connect({str(file)!r}, read_only=True); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        with pytest.raises(TryLater, match="Could not set lock"):
            deliver(options, batch_of([b"{}"], "b-0"))
        reader.stdin.close()
    assert deliver(options, batch_of([b"{}"], "b-0")).accepted == 1


def test_a_locked_table_is_not_waited_for_without_end(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds a lock delays neither the next subscribers nor the end of the run: the batch is retried later."""
    import psycopg2

    monkeypatch.setattr(warehouse_postgres, "LOCK_TIMEOUT_SECONDS", 0.1)
    with new_database(postgres) as url, closing(psycopg2.connect(url)) as other:
        options = {"destination": "postgres", "connection": url}
        deliver(options, batch_of([b'{"a":1}'], "b-0"))
        other.cursor().execute("LOCK TABLE export.events")
        with pytest.raises(TryLater, match="lock timeout"):
            deliver(options, batch_of([b'{"a":2}'], "b-1"))
        other.rollback()
        assert deliver(options, batch_of([b'{"a":2}'], "b-1")).accepted == 1


def test_a_unique_constraint_that_somebody_added_refuses_the_event(postgres: str) -> None:
    """Its events are not tried for ever."""
    with new_database(postgres) as url:
        options = {"destination": "postgres", "connection": url}
        deliver(options, batch_of([b'{"a":1}'], "b-0"))
        run(url, "ALTER TABLE export.events ADD UNIQUE (a)")
        assert list(deliver(options, batch_of([b'{"a":2}', b'{"a":1}', b'{"a":3}'], "b-1")).refused) == [1]


def test_columns_that_somebody_made(postgres: str) -> None:
    """Of types that hold only some values, or take none: what does not fit goes beside, and nothing is rounded."""
    with new_database(postgres) as url:
        options = {"destination": "postgres", "connection": url}
        deliver(options, batch_of([b'{"a":1}'], "b-0"))
        run(
            url,
            "ALTER TABLE export.events ADD small smallint, ADD short varchar(3), ADD at timestamptz, "
            "ADD exact numeric(4,1), ADD twice int GENERATED ALWAYS AS (2 * a) STORED, ADD noted text DEFAULT 'x'",
        )
        event = {
            "small": 40_000,
            "short": "four",
            "at": "2026-11-28T09:00:00Z",
            "exact": 1.25,
            "twice": 7,
            "noted": "y",
        }
        fits = {"small": 4, "short": "abc", "noted": "z"}
        assert deliver(options, batch_of([json.dumps(one).encode() for one in (event, fits)], "b-1")).accepted == 2
        ours = ("_event_id", "_batch_id", "_file", "_exported_at")
        found = [{k: v for k, v in row.items() if v is not None and k not in ours} for row in postgres_rows(url)]
        assert {k.partition("__v_")[0]: v for row in found for k, v in row.items() if row.get("noted") == "y"} == event
        assert fits in found


LOCKED = (
    'IO Error: Could not set lock on file "/lake/x.duckdb": Conflicting lock is held in /usr/bin/python3 (PID 7). '
    "However, you would be able to open this database in read-only mode, e.g. by using the -readonly parameter in the "
    "CLI."
)


@pytest.mark.parametrize(
    ("kind", "said", "outcome"),
    [
        ("IOException", 'IO Error: Could not write file "x": No space left on device', Blocked),
        ("IOException", 'IO Error: Cannot open file "x": Permission denied', Blocked),
        ("InvalidInputException", "Cannot execute statement in read-only mode", Blocked),
        ("IOException", LOCKED, TryLater),
        ("IOException", 'IO Error: Could not write file "/read-only/permission denied/x": Broken pipe', TryLater),
        ("TransactionException", "write-write conflict", TryLater),
        ("OutOfMemoryException", "failed to allocate", TryLater),
    ],
)
def test_what_duckdb_says(kind: str, said: str, outcome: type[Exception]) -> None:
    """Errors caused by the machine or another process are not attributed to an event."""
    import duckdb

    found = meaning_of_duckdb(getattr(duckdb, kind)(said))
    assert type(found) is outcome
    assert said in str(found)


def test_a_constraint_of_a_duckdb_table_refuses_the_event(tmp_path: Path) -> None:
    """A text of the event that reads like a fault of the disk does not make it one."""
    import duckdb

    file = tmp_path / "lake.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            "CREATE SCHEMA export; CREATE TABLE export.events (_event_id VARCHAR NOT NULL, _batch_id VARCHAR, "
            "_file VARCHAR, _exported_at TIMESTAMPTZ, a VARCHAR CHECK (length(a) < 5))"
        )
    events = [b'{"a":"good"}', b'{"a":"No space left on device"}', b'{"a":"well"}']
    sent = deliver({"destination": "duckdb", "url": str(file)}, batch_of(events))
    assert list(sent.refused) == [1]
    assert sorted(row["a"] for row in duckdb_rows(file, "export.events")) == ["good", "well"]
