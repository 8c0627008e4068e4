"""Events as rows: dotted columns, CSV and Parquet."""

import csv
import io
import json
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export_pipeline.cli.flattening import MORE, Columns
from export_pipeline.cli.tables import CsvTable, ParquetTable


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def as_csv(data: bytes, max_columns: int = 100) -> list[list[str]]:
    output = io.BytesIO()
    table = CsvTable(output, max_columns)
    table.add(data)
    table.finish()
    table.close()
    return list(csv.reader(io.StringIO(output.getvalue().decode("utf-8"), newline="")))


def as_parquet(data: bytes, max_columns: int = 100) -> "pyarrow.Table":
    output = io.BytesIO()
    table = ParquetTable(output, max_columns)
    table.add(data)
    table.finish()
    table.close()
    return pyarrow.parquet.read_table(io.BytesIO(output.getvalue()))


def test_nested_objects_become_dotted_columns() -> None:
    """Columns are paths in the order in which they turn up; rows before a column's first value are empty in it."""
    rows = as_csv(lines({"a": 1, "b": {"c": "x", "d": {"e": True}}}, {"b": {"f": 2.5}, "a": None}))
    assert rows == [["a", "b.c", "b.d.e", "b.f"], ["1", "x", "true", ""], ["", "", "", "2.5"]]


def test_what_is_no_plain_value_is_json() -> None:
    """A list is one cell of JSON, an empty object is none, and what is nested beyond 32 levels is JSON too."""
    deep: dict[str, Any] = {"bottom": 1}
    for _ in range(40):
        deep = {"k": deep}
    rows = as_csv(lines({"list": ["ä", 1], "empty": {}, "deep": deep}))
    header, (first, last) = rows[0], rows[1]
    assert header == ["list", "deep" + ".k" * 31]
    assert first == '["ä",1]'
    assert json.loads(last) == {"k": {"k": {"k": {"k": {"k": {"k": {"k": {"k": {"k": {"bottom": 1}}}}}}}}}}


def test_a_dot_in_a_key_is_no_level() -> None:
    """A key with a dot in it and a nested one never share a column."""
    assert as_csv(lines({"a.b": 1, "a": {"b": 2}, "a\\": {"b": 3}}))[0] == ["a\\.b", "a.b", "a\\\\.b"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_formula_is_defused(start: str) -> None:
    """A text, or a column's name, that a spreadsheet would take for a formula begins with an apostrophe."""
    rows = as_csv(lines({f"{start}key": f"{start}cmd|' /C calc'!A0"}))
    assert rows == [[f"'{start}key"], [f"'{start}cmd|' /C calc'!A0"]]


def test_numbers_are_no_formulas() -> None:
    """A negative number stays one; long integers keep their digits, and numbers no double holds stay as written."""
    data = b'{"a":-5,"b":-0.5,"c":123456789012345678901234567890,"d":1e999,"e":' + b"9" * 5_000 + b"}\n"
    row = as_csv(data)[1]
    assert row[:4] == ["-5", "-0.5", "123456789012345678901234567890", "1e999"]
    assert row[4] == "9" * 5_000


def test_any_text_survives() -> None:
    """Quotes, commas, line ends and emoji come back as they were; half of a surrogate pair becomes its escape."""
    rows = as_csv(b'{"a":"x\\"y,z\\r\\n\\u00e4\\ud83d\\ude00","b":"\\ud800"}\n')
    assert rows[1] == ['x"y,z\r\nä😀', "\\ud800"]


def test_keys_without_end_take_no_memory() -> None:
    """Beyond the limit of columns, values go into one column, as JSON, and none is lost."""
    events = [{"id": n, f"key{n}": n, MORE: "mine"} for n in range(50)]
    rows = as_csv(lines(*events), max_columns=3)
    assert rows[0] == ["id", "key0", MORE, "key1"]
    assert rows[1] == ["0", "0", '{"_more":"mine"}', ""]
    assert rows[50] == ["49", "", '{"key49":49,"_more":"mine"}', ""]


keys = st.text(max_size=3)
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
documents = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@settings(deadline=None)
@given(st.lists(st.dictionaries(keys, documents, max_size=4), max_size=5), st.integers(1, 20))
def test_any_event_has_a_row(events: list[dict[str, Any]], max_columns: int) -> None:
    """Whatever the events, there is a row for each, as long as the header, and at most one column beyond the limit."""
    columns = Columns(max_columns)
    rows = [columns.row(json.dumps(event).encode()) for event in events]
    assert len(columns.names) == len(set(columns.names)) <= max_columns + 1
    assert all(len(row) <= len(columns.names) for row in rows)
    table = as_csv(lines(*events), max_columns)
    if columns.names:
        assert [len(row) for row in table] == [len(columns.names)] * (len(events) + 1)
    assert as_parquet(lines(*events), max_columns).column_names == columns.names


def test_parquets_columns_have_types() -> None:
    """A column of one type throughout has it; what is mixed, or would lose digits, is text."""
    table = as_parquet(
        lines(
            {
                "flag": True,
                "count": 1,
                "ratio": 1,
                "mixed": 1,
                "big": 2**53 + 1,
                "huge": 2**70,
                "text": "=",
                "list": [1],
            },
            {"flag": None, "count": 2**62, "ratio": 0.5, "mixed": "a", "big": 0.5, "nothing": None},
        )
    )
    assert {field.name: str(field.type) for field in table.schema} == {
        "flag": "bool",
        "count": "int64",
        "ratio": "double",
        "mixed": "string",
        "big": "string",
        "huge": "string",
        "text": "string",
        "list": "string",
        "nothing": "string",
    }
    first, second = table.to_pylist()
    assert first["count"] == 1
    assert second["count"] == 2**62
    assert (first["big"], first["huge"], first["text"], first["list"]) == (str(2**53 + 1), str(2**70), "=", "[1]")
    assert (second["ratio"], second["mixed"], second["flag"]) == (0.5, "a", None)


def test_parquet_in_many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than are held at once are all written, in order."""
    monkeypatch.setattr("export_pipeline.cli.tables._ROWS_AT_ONCE", 7)
    table = as_parquet(lines(*({"n": n} for n in range(50))))
    assert table.column("n").to_pylist() == list(range(50))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(1)", "＝1", '"=1+1"', " =1+1", '""=1+1'])
@pytest.mark.parametrize("before", ["", "x", '"x"'])
def test_no_formula_begins_wherever_a_spreadsheet_splits(separator: str, start: str, before: str) -> None:
    """A list is written with commas; whatever else a spreadsheet splits it at, no part begins as a formula does."""
    output = io.BytesIO()
    table = CsvTable(output, 10)
    table.add(lines({"a": f"{before}{separator}{start}{separator}", f"k{separator}{start}": 1, "n": f"x\n{start}"}))
    table.finish()
    table.close()
    for line in output.getvalue().decode().splitlines():
        for part in line.split(separator):
            assert not part.strip(' "').startswith(("=", "+", "-", "@", "＝"))


def test_a_cell_with_another_separator_is_quoted() -> None:
    """The row of such a cell is written in quotation marks, and reads back as it is where commas separate."""
    output = io.BytesIO()
    table = CsvTable(output, 10)
    table.add(lines({"a": "x;=1+1;", "n": 5}, {"a": "plain", "n": 6}))
    table.finish()
    table.close()
    assert output.getvalue() == b'a,n\r\n"x;\'=1+1;","5"\r\nplain,6\r\n'
