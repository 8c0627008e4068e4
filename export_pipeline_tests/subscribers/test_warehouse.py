"""The warehouse subscriber: dlt with DuckDB, PostgreSQL, Parquet files and Delta tables, all of them real."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.subscribers.warehouse_columns import OWN_COLUMNS
from export_pipeline.testing import SubscriberContract, batch_of, sample_event
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.subscribers.warehouses import (
    delta_rows,
    duckdb_rows,
    iceberg_rows,
    parquet_rows,
    postgres_rows,
)

NESTED = ("application", "session", "attributes", "metrics", "endpoint")
# dlt's own affairs with pandas, pyarrow and DuckDB; none is about this package.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def as_event(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what is ours and what is empty, nested members parsed."""
    own = {*OWN_COLUMNS, "_dlt_load_id", "_dlt_id"}
    found = {name: value for name, value in row.items() if value is not None and name not in own}
    return {
        k: json.loads(v) if k in NESTED and isinstance(v, str) and v[:1] in ("{", "[", '"') else v
        for k, v in found.items()
    }


class WarehouseContract(SubscriberContract):
    """What all destinations have in common."""

    largest_event_bytes = 200_000
    batches_in_parallel = 2  # each takes dlt half a second

    def rows(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def held(self) -> Iterable[object]:
        return [as_event(row) for row in self.rows()]

    def expected(self, events: Sequence[bytes]) -> Iterable[object]:
        found = [json.loads(event) for event in events]
        return [{("aws_account_id" if k == "awsAccountId" else k): v for k, v in event.items()} for event in found]

    def awkward_events(self) -> list[bytes]:
        return [
            b"{}",
            sample_event(1, extra="Straße – 日本語 🦔 \u2028 <b>'\";--"),
            sample_event(2, attributes={"same": 1, "big": 10**30, "text": "x" * 200_000, "list": [1, {"a": None}]}),
            b'{"event_type":"tiny","session":[],"metrics":{}}',
        ]


class TestDuckdb(WarehouseContract):
    """A file."""

    failures = {"no such folder": Blocked}

    @pytest.fixture
    def subscriber(self, tmp_path: Path) -> Iterator[Subscriber]:
        self.file = tmp_path / "lake.duckdb"
        subscriber = Warehouse(destination="duckdb", url=str(self.file))
        yield subscriber
        subscriber.close()

    def rows(self) -> list[dict[str, Any]]:
        return duckdb_rows(self.file, "export.events")

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        self.file.write_bytes(b"this is no database" * 1000)
        return Warehouse(destination="duckdb", url=str(self.file))

    def mend(self) -> None:
        self.file.unlink()


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> str:
    """The URL of a PostgreSQL server, with a password, since dlt insists on one."""
    return postgres_url.replace("export@", "export:s3cr3t-password@")


class TestPostgres(WarehouseContract):
    """A server."""

    failures = {"wrong database": Blocked, "nobody listens": TryLater}

    @pytest.fixture
    def subscriber(self, postgres: str) -> Iterator[Subscriber]:
        with new_database(postgres) as self.url:
            subscriber = Warehouse(destination="postgres", connection=self.url)
            yield subscriber
            subscriber.close()

    def rows(self) -> list[dict[str, Any]]:
        return postgres_rows(self.url)

    def bad_event(self) -> bytes:
        return rb'{"event_type":"a\u0000b"}'

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        url = "postgresql://export:s3cr3t-password@127.0.0.1:9/x?connect_timeout=1"
        if failure == "wrong database":
            url = self.url.rpartition("/")[0] + "/there_is_none"
        return Warehouse(destination="postgres", connection=url)


class TestParquet(WarehouseContract):
    """Files named by their batch."""

    failures = {"a file is in the way": Blocked}

    @pytest.fixture
    def subscriber(self, tmp_path: Path) -> Iterator[Subscriber]:
        self.folder = tmp_path / "lake"
        subscriber = Warehouse(destination="filesystem", url=str(self.folder))
        yield subscriber
        subscriber.close()

    def rows(self) -> list[dict[str, Any]]:
        return parquet_rows(self.folder)

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        self.folder.write_text("a file")
        return Warehouse(destination="filesystem", url=str(self.folder))

    def mend(self) -> None:
        self.folder.unlink()


class TestDelta(WarehouseContract):
    """A Delta table."""

    @pytest.fixture
    def subscriber(self, tmp_path: Path) -> Iterator[Subscriber]:
        self.folder = tmp_path / "lake"
        subscriber = Warehouse(destination="filesystem", url=self.folder.as_uri(), table_format="delta")
        yield subscriber
        subscriber.close()

    def rows(self) -> list[dict[str, Any]]:
        return delta_rows(self.folder)


@pytest.mark.thorough
class TestIceberg(WarehouseContract):
    """An Iceberg table."""

    @pytest.fixture
    def subscriber(self, tmp_path: Path) -> Iterator[Subscriber]:
        self.folder = tmp_path / "lake"
        subscriber = Warehouse(destination="filesystem", url=self.folder.as_uri(), table_format="iceberg")
        yield subscriber
        subscriber.close()

    def rows(self) -> list[dict[str, Any]]:
        return iceberg_rows(self.folder)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake.duckdb"


def deliver(lake: Path, batch: Batch, **options: Any) -> Sent:
    warehouse = Warehouse(**{"destination": "duckdb", "url": str(lake), **options})
    sent = send_to(warehouse, batch)
    warehouse.close()
    return sent


def test_an_iceberg_table(tmp_path: Path) -> None:
    """Events become rows of an Iceberg table, and a repeat adds none."""
    warehouse = Warehouse(destination="filesystem", url=tmp_path.as_uri(), table_format="iceberg")
    for _ in range(2):
        send_to(warehouse, batch_of([b'{"a":1}', b'{"a":2}'], "b-7"))
    warehouse.close()
    assert sorted(row["a"] for row in iceberg_rows(tmp_path)) == [1, 2]


def test_rows_bear_where_they_come_from(lake: Path) -> None:
    """Every row has the event's hash, the batch, its file and the time; the same event twice is two rows."""
    deliver(lake, batch_of([b'{"a":1}', b'{"a":1}', b'{"a":2}'], "b-7"))
    rows = sorted(duckdb_rows(lake, "export.events"), key=lambda row: row["_event_id"])
    assert len({row["_event_id"] for row in rows}) == 3
    assert {row["_batch_id"] for row in rows} == {"b-7"}
    assert {row["_file"] for row in rows} == set(batch_of([b"{}"]).files)
    assert all(row["_exported_at"].tzinfo for row in rows)


def test_batches_add_up_and_repeats_do_not(lake: Path) -> None:
    """Every batch is added; one that comes again, in another process as it were, adds nothing."""
    batches = [batch_of([sample_event(100 * n + m) for m in range(50)], f"b-{n}") for n in range(3)]
    for batch in [*batches, batches[1], batches[0]]:
        assert deliver(lake, batch).accepted == 50
    assert len(duckdb_rows(lake, "export.events")) == 150


def test_types_that_change_get_columns_of_their_own(lake: Path) -> None:
    """A text where numbers were goes into a column beside, as dlt has it; nothing is lost, nothing fails."""
    deliver(lake, batch_of([b'{"v":1}', b'{"v":2.5}'], "b-1"))
    deliver(lake, batch_of([b'{"v":"three"}', b'{"v":4}', b'{"v":{"five":5}}', b'{"v":true}'], "b-2"))
    rows = [
        {name: value for name, value in row.items() if name.startswith("v") and value is not None}
        for row in duckdb_rows(lake, "export.events")
    ]
    assert sorted(rows, key=str) == sorted(
        [{"v": 1.0}, {"v": 2.5}, {"v__v_text": "three"}, {"v": 4.0}, {"v__v_json": '{"five":5}'}, {"v__v_bool": True}],
        key=str,
    )


def test_a_frozen_table_refuses_what_it_has_no_column_for(lake: Path) -> None:
    """With ``schema_contract: freeze`` an event with a new member is quarantined, and the others are loaded."""
    deliver(lake, batch_of([b'{"a":1}'], "b-1"), schema_contract="freeze")
    events = [b'{"a":2}', b'{"a":3,"new":1}', b'{"a":4}', b'{"a":"text"}']
    sent = deliver(lake, batch_of(events, "b-2"), schema_contract="freeze")
    assert sent.accepted == 2
    assert list(sent.refused) == [1, 3]
    assert sorted(row["a"] for row in duckdb_rows(lake, "export.events")) == [1, 2, 4]


def test_names_of_ones_own(lake: Path) -> None:
    """Schema and table are called as configured."""
    options: dict[str, Any] = {"schema": "analytics", "table_name": "clicks"}
    deliver(lake, batch_of([b"{}"]), **options)
    assert len(duckdb_rows(lake, "analytics.clicks")) == 1


def test_a_repeat_of_a_file_overwrites_it(tmp_path: Path) -> None:
    """JSON lines or Parquet: one file for each batch, called by its id."""
    for _ in range(2):
        warehouse = Warehouse(destination="filesystem", url=str(tmp_path), file_format="jsonl")
        for batch_id in ("b-1", "b-2"):
            send_to(warehouse, batch_of([sample_event(0)], batch_id))
        warehouse.close()
    names = sorted(file.name for file in (tmp_path / "export" / "events").iterdir())
    assert [name.partition(".")[0] for name in names] == ["b-1", "b-2"]


@pytest.mark.parametrize("url", ["{}/Export.duckdb", "{}/export.of.clicks.db", "export"])
def test_a_duckdb_file_called_like_the_schema_is_refused(tmp_path: Path, url: str) -> None:
    """DuckDB names a database by its file: ``export.events`` would be ambiguous, for whoever reads it, too."""
    with pytest.raises(ValueError, match=r"schema export: the file \S+ has the same name"):
        Warehouse(destination="duckdb", url=url.format(tmp_path))
    other: dict[str, Any] = {"schema": "clicks"}
    made = Warehouse(destination="duckdb", url=str(tmp_path / "export.duckdb"), **other)
    send_to(made, batch_of([b'{"a":1}']))
    made.close()
    assert [row["a"] for row in duckdb_rows(tmp_path / "export.duckdb", "clicks.events")] == [1]


def test_a_destination_that_is_none_blocks(tmp_path: Path) -> None:
    """A wrong name is reported."""
    warehouse = Warehouse(destination="oracle_of_delphi")
    with pytest.raises(Blocked, match="oracle_of_delphi"):
        warehouse.deliver(batch_of([b"{}"]))
    warehouse.close()


def test_secrets() -> None:
    """The deployment file may give these only as {env: NAME}."""
    assert secret_fields(Warehouse) == {"connection", "credentials"}
