"""Parquet files, one for each batch, without dlt: repeats, other choices of a batch, and folders of dlt's."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pyarrow.parquet
import pytest

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers import warehouse_folder, warehouse_parquet
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.subscribers.warehouse_columns import OWN_COLUMNS
from export_pipeline.subscribers.warehouse_dlt import Dlt, DltOptions
from export_pipeline.subscribers.warehouse_native import Table
from export_pipeline.testing import batch_of
from export_pipeline_tests.subscribers.warehouses import parquet_rows

# dlt's own affairs with pandas and pyarrow; none is about this package.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FILE = "export/events/b-1.parquet"


def deliver(folder: Path | str, batch: Batch, **options: Any) -> Sent:
    warehouse = Warehouse(**{"destination": "filesystem", "url": str(folder), "retry_for_seconds": 0, **options})
    try:
        return send_to(warehouse, batch)
    finally:
        warehouse.close()


def by_dlt(folder: Path, batch: Batch, **options: Any) -> None:
    """Load *batch* as dlt did before files were written without it."""
    given: dict[str, Any] = {"table_format": "none", "file_format": "parquet", "max_table_nesting": 0, **options}
    made = DltOptions("filesystem", str(folder), None, {}, secrets=(), **given)
    table = Table("export", "events")
    loader = Dlt(made, table)
    try:
        loader.load_many([batch], table)
    finally:
        loader.close()


def values(folder: Path) -> list[dict[str, Any]]:
    """Rows without what is ours and what is null."""
    return [
        {name: value for name, value in row.items() if value is not None and name not in OWN_COLUMNS}
        for row in parquet_rows(folder)
    ]


def test_a_file_for_each_batch(tmp_path: Path) -> None:
    """Called by its id; the newest has every column, and all of them together are one table."""
    import duckdb

    deliver(tmp_path, batch_of([b'{"a":1,"t":"x"}', b'{"a":2}'], "b-1"))
    deliver(tmp_path, batch_of([b'{"b":{"c":1}}', b'{"a":"text"}'], "b-2"))
    names = sorted(file.name for file in (tmp_path / "export" / "events").iterdir())
    assert names == ["b-1.parquet", "b-2.parquet"]
    schema = pyarrow.parquet.read_schema(tmp_path / "export/events/b-2.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("_event_id", "string"),
        ("_batch_id", "string"),
        ("_file", "string"),
        ("_exported_at", "timestamp[us, tz=UTC]"),
        ("a", "int64"),
        ("t", "string"),
        ("b", "string"),
        ("a__v_text", "string"),
    ]
    query = f"SELECT a, a__v_text, t, b FROM read_parquet('{tmp_path}/export/events/*.parquet', union_by_name = true)"
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchall()
    assert sorted(found, key=str) == [
        (1, None, "x", None),
        (2, None, None, None),
        (None, "text", None, None),
        (None, None, None, '{"c":1}'),
    ]


def test_a_repeat_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    """Not a byte is written, and the log says that the rows were there."""
    batch = batch_of([b'{"a":1}', b'{"a":1}', b'{"a":2}'], "b-1")
    assert deliver(tmp_path, batch).details == ("3 rows inserted",)
    before = (tmp_path / FILE).stat()
    assert deliver(tmp_path, batch).details == ("0 rows inserted, 3 were already in the table",)
    assert (tmp_path / FILE).stat().st_ino == before.st_ino
    assert len(parquet_rows(tmp_path)) == 3


@pytest.mark.parametrize("kinds", [["a", "b", "c"], ["abc", "a"], ["ab", "bc", "abc"], ["c", "abc", "b"]])
def test_every_choice_of_a_batch_is_in_its_file_once(tmp_path: Path, kinds: list[str]) -> None:
    """Whatever ``only`` has chosen in which order: of the batch each event is there once, also after repeats."""
    batch = batch_of([b'{"event_type":"%s","n":%d}' % (kind.encode(), n) for n, kind in enumerate("abcab")], "b-1")
    for chosen in [*kinds, *kinds]:
        deliver(tmp_path, batch, only=list(chosen))
    expected = sorted(n for n, kind in enumerate("abcab") if kind in "".join(kinds))
    assert sorted(row["n"] for row in parquet_rows(tmp_path)) == expected
    assert os.listdir(tmp_path / "export" / "events") == ["b-1.parquet"]


def test_a_part_of_a_batch_comes_before_the_whole(tmp_path: Path) -> None:
    """As after a load that was divided: the rest is added."""
    batch = batch_of([b'{"a":%d}' % n for n in range(4)], "b-1")
    deliver(tmp_path, batch.holding(batch.lines()[1:3], id="b-1-r1-3", positions=range(1, 3)))
    assert deliver(tmp_path, batch).details == ("2 rows inserted, 2 were already in the table",)
    assert sorted(row["a"] for row in parquet_rows(tmp_path)) == [0, 1, 2, 3]


def test_killed_between_note_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that were noted for a file that never came are there for the next; nobody else gets their names."""
    put = warehouse_folder._LocalLake.put

    def fails(lake: Any, name: str, data: bytes) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(warehouse_folder._LocalLake, "put", fails)
    with pytest.raises(TryLater, match="Input/output error"):
        deliver(tmp_path, batch_of([b'{"userId":"of userId"}'], "b-1"))
    monkeypatch.setattr(warehouse_folder._LocalLake, "put", put)
    deliver(tmp_path, batch_of([b'{"user_id":"of user_id"}'], "b-2"))
    deliver(tmp_path, batch_of([b'{"userId":"of userId"}'], "b-1"))
    found = {name: value for row in values(tmp_path) for name, value in row.items()}
    assert len(found) == 2
    assert found["user_id"] == "of userId"


def test_a_file_that_is_written_is_not_seen_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that ends early leaves no file, or the one before."""
    batch = batch_of([b'{"event_type":"a"}', b'{"event_type":"b"}'], "b-1")
    deliver(tmp_path, batch, only=["a"])
    before = (tmp_path / FILE).read_bytes()

    def fails(*places: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(TryLater, match="No space left"):
        deliver(tmp_path, batch)
    assert (tmp_path / FILE).read_bytes() == before
    assert os.listdir(tmp_path / "export" / "events") == ["b-1.parquet"]


def test_two_loads_that_name_columns_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a common ledger: the second one finds that it was not the first, and decides anew at its next try."""
    deliver(tmp_path, batch_of([b"{}", b'{"a":1}'], "b-0"))
    last_number = warehouse_parquet.ParquetFiles._last_number

    def beside(loader: Any) -> int:
        found = last_number(loader)
        monkeypatch.setattr(warehouse_parquet.ParquetFiles, "_last_number", last_number)
        deliver(tmp_path, batch_of([b'{"user_id":"of user_id"}'], "b-1"))
        return found

    monkeypatch.setattr(warehouse_parquet.ParquetFiles, "_last_number", beside)
    with pytest.raises(TryLater, match="another load has added columns at the same time"):
        deliver(tmp_path, batch_of([b'{"userId":"of userId"}'], "b-2"))
    assert not (tmp_path / "export/events/b-2.parquet").exists()
    deliver(tmp_path, batch_of([b'{"userId":"of userId"}'], "b-2"))
    owners: dict[str, set[str]] = {}
    for row in values(tmp_path):
        for name, value in row.items():
            owners.setdefault(name, set()).add(str(value))
    assert sorted(map(sorted, owners.values())) == [["1"], ["of userId"], ["of user_id"]]


def test_slices_of_a_large_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that come in a later slice are in the file, and refused events keep their numbers."""
    monkeypatch.setattr(warehouse_parquet, "SLICE_BYTES", 40)
    events = [b'{"n":%d}' % n for n in range(20)]
    events[5], events[17] = b'{"n":5,"text":"\\ud800"}', b'{"n":17,"late":1.5}'
    assert list(deliver(tmp_path, batch_of(events, "b-1")).refused) == [5]
    assert sorted(row["n"] for row in parquet_rows(tmp_path)) == [n for n in range(20) if n != 5]
    assert [row["late"] for row in parquet_rows(tmp_path) if row["late"]] == [1.5]


def test_a_frozen_table(tmp_path: Path) -> None:
    """The first batch makes the columns; an event that needs another is refused, and names none for others."""
    frozen = {"schema_contract": "freeze"}
    deliver(tmp_path, batch_of([b'{"a":1}', b'{"b":1}'], "b-1"), **frozen)
    sent = deliver(tmp_path, batch_of([b'{"a":2,"c":1}', b'{"b":"text"}', b'{"b":3}'], "b-2"), **frozen)
    assert list(sent.refused) == [0, 1]
    assert values(tmp_path) == [{"a": 1}, {"b": 1}, {"b": 3}]


def test_events_that_are_all_refused_leave_nothing(tmp_path: Path) -> None:
    """No file, and no column."""
    events = [b'{"a":"\\ud800"}', b'{"b":1,"c":"\\udfff"}']
    assert list(deliver(tmp_path, batch_of(events, "b-1")).refused) == [0, 1]
    assert list(tmp_path.rglob("*.*")) == []


def test_a_folder_that_dlt_made_is_continued(tmp_path: Path) -> None:
    """Its columns go on with their members, and what it holds of a batch is not written again."""
    first = batch_of([b'{"userId":"of userId","c":{"x":1},"n":1}', b'{"user_id":"of user_id","n":2}'], "b-1")
    by_dlt(tmp_path, first)
    chosen = batch_of([b'{"n":3}', b'{"n":4}'], "b-2")
    by_dlt(tmp_path, chosen.holding(chosen.lines()[:1], id="b-2", positions=[0]))
    names = {name: value for row in values(tmp_path) for name, value in row.items() if str(value).startswith("of")}
    assert deliver(tmp_path, first).details == ("0 rows inserted, 2 were already in the table",)
    part = chosen.holding(chosen.lines()[:1], id="b-2", positions=[0])
    assert deliver(tmp_path, part).details == ("0 rows inserted, 1 were already in the table",)
    events = [b'{"userId":"of userId","UserId":"of UserId","c":{"x":2},"n":1.5}', b'{"user_id":"of user_id"}']
    deliver(tmp_path, batch_of(events, "b-3"))
    for row in values(tmp_path):
        for name, value in row.items():
            if str(value).startswith("of"):
                assert names.setdefault(name, value) == value
    assert len(names) == 3
    assert [row["n__v_double"] for row in values(tmp_path) if "n__v_double" in row] == [1.5]
    assert len(values(tmp_path)) == 5


@pytest.mark.parametrize("left", [0, 4, 300])
def test_a_file_that_was_cut_off_is_written_again(tmp_path: Path, left: int) -> None:
    """As dlt left it where it was stopped: the batch comes again, and is not tried for ever."""
    batch = batch_of([b'{"a":1}', b'{"a":2}'], "b-1")
    by_dlt(tmp_path, batch)
    with (tmp_path / FILE).open("r+b") as file:
        file.truncate(left)
    assert deliver(tmp_path, batch).details == ("2 rows inserted",)
    assert values(tmp_path) == [{"a": 1}, {"a": 2}]


def test_a_folder_of_a_version_without_notes_is_continued(tmp_path: Path) -> None:
    """Where dlt's schema does not tell whose the columns are, each goes on with the member of its name."""
    import dlt
    import pyarrow as pa

    folder = tmp_path / "lake"
    pipeline = dlt.pipeline(
        "export_export_events",
        destination=dlt.destinations.filesystem(bucket_url=str(folder), layout="{table_name}/old.{ext}"),
        dataset_name="export",
        pipelines_dir=str(tmp_path / "dlt"),
    )
    pipeline.run(
        dlt.resource([pa.table({"user_id": ["u"], "_event_id": ["0" * 64], "_batch_id": ["old"]})], name="events"),
        loader_file_format="parquet",
    )
    deliver(folder, batch_of([b'{"user_id":"v"}', b'{"userId":"w"}'], "b-1"))
    assert sorted(row["user_id"] for row in values(folder) if "user_id" in row) == ["u", "v"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"max_table_nesting": 1}, "was loaded with max_table_nesting"),
        ({"table_format": "delta"}, "_delta_log, which is not the Parquet file of a batch: use another"),
        ({"file_format": "jsonl"}, r"b-1\.jsonl\S*, which is not the Parquet file of a batch"),
    ],
)
def test_a_folder_that_cannot_be_continued_blocks(tmp_path: Path, made: dict[str, Any], said: str) -> None:
    """What else dlt made there is left alone, and the error says what to do; another table is none of it."""
    by_dlt(tmp_path, batch_of([b'{"a":1,"list":[{"x":1}]}'], "b-1"), **made)
    with pytest.raises(Blocked, match=said):
        deliver(tmp_path, batch_of([b'{"a":2}'], "b-2"))
    assert deliver(tmp_path, batch_of([b'{"a":2}'], "b-2"), table_name="other").accepted == 1


def test_files_without_the_note_of_their_columns_block(tmp_path: Path) -> None:
    """Nobody could tell whose the columns are."""
    deliver(tmp_path, batch_of([b'{"a":1}'], "b-1"))
    note = tmp_path / "export" / "_export_columns" / "events" / "000001.json"
    kept = note.read_bytes()
    note.unlink()
    with pytest.raises(Blocked, match=r"the record of their columns is missing .* restore it"):
        deliver(tmp_path, batch_of([b'{"a":2}'], "b-2"))
    note.write_bytes(kept)
    assert deliver(tmp_path, batch_of([b'{"a":2}'], "b-2")).accepted == 1
    assert {"name": "a", "type": "bigint", "member": "a", "variant": None} in json.loads(kept)["columns"]


@pytest.mark.parametrize("options", [{"max_table_nesting": 1}, {"table_format": "delta"}, {"file_format": "jsonl"}])
def test_dlt_does_not_go_on_with_our_files(tmp_path: Path, options: dict[str, Any]) -> None:
    """It would not know the columns."""
    deliver(tmp_path, batch_of([b'{"a":1}'], "b-1"))
    with pytest.raises(Blocked, match=r"was loaded without \w+.* dlt cannot continue it: use another table_name"):
        deliver(tmp_path, batch_of([b'{"a":2}'], "b-2"), **options)
    assert len(parquet_rows(tmp_path)) == 1


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URL that leads to fsspec's store in memory, by the way of buckets."""
    monkeypatch.setattr(warehouse_folder, "_BUCKETS", ("memory",))
    yield "memory://bucket/lake"
    fsspec.filesystem("memory").store.clear()


def test_a_bucket(bucket: str) -> None:
    """By fsspec: repeats, other choices and columns are as in a folder."""
    batch = batch_of([b'{"event_type":"a"}', b'{"event_type":"b","userId":1}'], "b-1")
    for only in (["a"], ["a", "b"], ["b"]):
        deliver(bucket, batch, only=only)
    deliver(bucket, batch_of([b'{"user_id":2}'], "b-2"))
    files = fsspec.filesystem("memory")
    assert sorted(files.ls("/bucket/lake/export/events", detail=False)) == [
        "/bucket/lake/export/events/b-1.parquet",
        "/bucket/lake/export/events/b-2.parquet",
    ]
    with files.open("/bucket/lake/export/events/b-1.parquet") as file:
        assert sorted(row["event_type"] for row in pyarrow.parquet.read_table(file).to_pylist()) == ["a", "b"]
    with files.open("/bucket/lake/export/events/b-2.parquet") as file:
        (row,) = pyarrow.parquet.read_table(file).to_pylist()
    assert row["user_id"] is None
    assert 2 in row.values()


def test_a_note_is_written_once(bucket: str, tmp_path: Path) -> None:
    """In a folder and in a bucket: the second one that creates a name learns that it was there."""
    for url in (bucket, str(tmp_path)):
        lake = warehouse_folder.open_lake(DltOptions("filesystem", url, None, {}, "none", "parquet", 0, ()), "export")
        assert lake is not None
        assert [lake.create("x/1.json", b"first"), lake.create("x/1.json", b"second")] == [True, False]
        assert lake.get("x/1.json") == b"first"
        assert lake.names("x") == ["1.json"]
        assert lake.names("nothing") == []
        assert lake.get("x/2.json") is None


def test_dlt_loads_several_batches_as_one_package(tmp_path: Path) -> None:
    """A Delta table: each batch has its own receipt, columns are decided over all, and a repeat adds nothing."""
    from deltalake import DeltaTable

    warehouse = Warehouse(destination="filesystem", url=str(tmp_path), table_format="delta")
    batches = [
        batch_of([b'{"userId":"of userId"}', b'{"a":"\\ud800"}'], "b-1"),
        batch_of([b'{"user_id":"of user_id"}', b'{"same":1}', b'{"same":1}'], "b-2"),
        batch_of([b'{"same":"text"}', b'{"same":1}'], "b-3"),
    ]
    for _ in range(2):
        receipts = warehouse.deliver_many(batches)
        assert [list(receipt.refused) for receipt in receipts] == [[1], [], []]
        assert len({receipt.detail for receipt in receipts}) == 1
    warehouse.close()
    made = DeltaTable(str(tmp_path / "export" / "events"))
    found = pyarrow.table(made.to_pyarrow_table()).to_pylist()
    assert sorted(str(row["same"]) for row in found) == ["1", "1", "1", "None", "None", "None"]
    assert [row["same__v_text"] for row in found if row["same__v_text"]] == ["text"]
    held = [{name: value for name, value in row.items() if str(value).startswith("of")} for row in found]
    assert len({tuple(row.items()) for row in held if row}) == 2
