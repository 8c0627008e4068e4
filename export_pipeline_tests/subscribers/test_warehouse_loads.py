"""Several batches in one load, and batches in slices: DuckDB and PostgreSQL, both real."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.errors import DeliveryError, TryLater
from export_pipeline.subscribers import warehouse_duckdb, warehouse_native
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.testing import batch_of
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.subscribers.warehouses import duckdb_rows, parquet_rows, postgres_rows

Rows = Callable[[], list[dict[str, Any]]]


@pytest.fixture(params=["duckdb", "postgres", "parquet"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[dict[str, Any], Rows]]:
    """Options for an empty destination, and what reads its table."""
    if request.param == "postgres":
        with new_database(request.getfixturevalue("postgres_url")) as url:
            yield {"destination": "postgres", "connection": url}, lambda: postgres_rows(url, "export.events")
    elif request.param == "parquet":
        yield {"destination": "filesystem", "url": str(tmp_path)}, lambda: parquet_rows(tmp_path)
    else:
        file = tmp_path / "lake.duckdb"
        yield {"destination": "duckdb", "url": str(file)}, lambda: duckdb_rows(file, "export.events")


@pytest.fixture
def warehouse(place: tuple[dict[str, Any], Rows]) -> Iterator[Warehouse]:
    made = Warehouse(**place[0])
    yield made
    made.close()


def numbered(first: int, count: int, **members: Any) -> list[bytes]:
    return [json.dumps({"n": n, **members}).encode() for n in range(first, first + count)]


def test_a_load_inserts_what_is_not_there(place: tuple[dict[str, Any], Rows], warehouse: Warehouse) -> None:
    """Of batches that come again beside new ones, also in part, each event is a row once, and the log says so."""
    batches = [batch_of(numbered(10 * n, 3), f"b-{n}") for n in range(4)]
    warehouse.deliver_many(batches[:1])
    warehouse.deliver_many([batches[1].holding(batches[1].lines()[:2], id="b-1-r0-2", positions=range(2))])
    receipts = warehouse.deliver_many(batches)
    assert [receipt.detail for receipt in receipts] == [
        "0 rows inserted, 3 were already in the table",
        "1 rows inserted, 2 were already in the table",
        "3 rows inserted",
        "3 rows inserted",
    ]
    assert sorted(row["n"] for row in place[1]()) == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]


def test_a_batch_in_slices_is_a_batch(
    place: tuple[dict[str, Any], Rows], warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that come in a later slice are added, variants too, and refused events keep their numbers."""
    monkeypatch.setattr(warehouse_native, "SLICE_BYTES", 40)
    half = b'{"n":5,"text":"\\ud800"}'
    events = [*numbered(0, 5), half, *numbered(6, 3, late=1.5), b'{"n":"text","late":true}', *numbered(10, 2)]
    (receipt, other) = warehouse.deliver_many([batch_of(events, "b-0"), batch_of(numbered(20, 4, later="x"), "b-1")])
    assert list(receipt.refused) == [5]
    assert other.refused == {}
    rows = place[1]()
    assert sorted(row["n"] for row in rows if row["n"] is not None) == [*range(5), 6, 7, 8, 10, 11, 20, 21, 22, 23]
    assert [row["n__v_text"] for row in rows if row["n"] is None] == ["text"]
    assert sorted(row["late"] for row in rows if row["late"] is not None) == [1.5] * 3
    assert [row["later"] for row in rows if row["later"]] == ["x"] * 4
    assert len({row["_event_id"] for row in rows}) == len(rows) == 15


@pytest.mark.parametrize("options", [{"schema_contract": "freeze"}, {"dedupe": "content"}])
def test_the_first_batch_of_a_load_makes_the_table(
    place: tuple[dict[str, Any], Rows], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen after it, whatever slices it came in; equal events of two batches are one row if that is configured."""
    if "dedupe" in options and place[0]["destination"] == "filesystem":
        pytest.skip("files do not know what others hold")
    monkeypatch.setattr(warehouse_native, "SLICE_BYTES", 20)
    made = Warehouse(**place[0], **options)
    first, second = made.deliver_many(
        [
            batch_of([*numbered(0, 3), *numbered(3, 1, a=1)], "b-0"),
            batch_of([*numbered(2, 1), *numbered(9, 1, b=1)], "b-1"),
        ]
    )
    made.close()
    is_frozen = "schema_contract" in options
    assert first.refused == {}
    assert list(second.refused) == ([1] if is_frozen else [])
    assert sorted(row["n"] for row in place[1]()) == ([0, 1, 2, 2, 3] if is_frozen else [0, 1, 2, 3, 9])


def test_a_load_that_fails_leaves_nothing(
    place: tuple[dict[str, Any], Rows], warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction: of the batches before the one that fails there is no row, nor a column of theirs."""
    if place[0]["destination"] == "filesystem":
        pytest.skip("each file is written by itself, and a repeat leaves those that are there as they are")
    warehouse.deliver_many([batch_of(numbered(0, 2), "b-0")])
    grow = warehouse_native._grow

    def fail(*arguments: Any, **options: Any) -> None:
        grow(*arguments, **options)
        if any(name == "bad" for name in arguments[2].claimed):
            raise OSError("disk full")

    monkeypatch.setattr(warehouse_native, "_grow", fail)
    with pytest.raises(DeliveryError):
        warehouse.deliver_many([batch_of(numbered(10, 2, good=1), "b-1"), batch_of(numbered(20, 2, bad=1), "b-2")])
    rows = place[1]()
    assert sorted(row["n"] for row in rows) == [0, 1]
    assert not any({"good", "bad"} & row.keys() for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\\N",
        "\\.",
        "a\n\\.\nb",
        'a"b',
        "a,b",
        "\r\n",
        "\t",
        "\\",
        "null",
        " ",
        "ä\u2028😀",
        *map(chr, (29, 30, 31, 127)),
    ],
)
def test_texts_that_mean_something_to_copy(place: tuple[dict[str, Any], Rows], warehouse: Warehouse, text: str) -> None:
    """Each is stored as it is, also as the first and the last value of a line, and beside one that is missing."""
    event = {"a": text, "b": text, "j": [text], "z": text}
    warehouse.deliver_many(
        [batch_of([json.dumps(event).encode(), b'{"n":1}', json.dumps({"z": text}).encode()], "b-0")]
    )
    rows = sorted(place[1](), key=lambda row: row["_event_id"])
    assert [(row["a"], row["z"]) for row in rows] == [(text, text), (None, None), (None, text)]
    found = rows[0]["j"]
    assert (json.loads(found) if isinstance(found, str) else found) == [text]


def test_duckdb_gets_more_memory_for_a_load_that_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that exceeds DuckDB's memory limit is repeated with the next one, and each of its events is a row once."""
    events = [json.dumps({f"m{m}": f"{n} {m}" for m in range(400)}).encode() for n in range(50)]
    batches = [batch_of(events, f"b-{n}") for n in range(2)]
    monkeypatch.setattr(warehouse_duckdb, "_MEMORY_LIMITS", ["5MB"])
    too_little = Warehouse(destination="duckdb", url=str(tmp_path / "lake.duckdb"))
    with pytest.raises(TryLater, match="memory limit"):
        too_little.deliver_many(batches)
    too_little.close()
    monkeypatch.setattr(warehouse_duckdb, "_MEMORY_LIMITS", ["5MB", "10MB", None])
    enough = Warehouse(destination="duckdb", url=str(tmp_path / "lake.duckdb"))
    assert [receipt.detail for receipt in enough.deliver_many(batches)] == ["50 rows inserted"] * 2
    enough.close()
    rows = duckdb_rows(tmp_path / "lake.duckdb", "export.events")
    assert len({row["_event_id"] for row in rows}) == len(rows) == 100
    assert [file.name for file in tmp_path.iterdir()] == ["lake.duckdb"]
