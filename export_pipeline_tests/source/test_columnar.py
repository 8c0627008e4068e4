"""Rows of Parquet and ORC become events, exactly."""

import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.errors import FileCorrupt
from export_pipeline.source.compression import decompress
from export_pipeline.source.file import ReadLimits

pa = pytest.importorskip("pyarrow")


def unpack(stored: bytes) -> list[Any]:
    """The rows of a file, each as its line of JSON says."""
    chunks = [stored[at : at + 1000] for at in range(0, len(stored), 1000)]
    pieces = decompress(chunks, key="2026/11/23/a", size_bytes=len(stored), limits=ReadLimits())
    return [json.loads(line) for line in b"".join(pieces).splitlines()]


def parquet(table: Any) -> bytes:
    """The table as a Parquet file."""
    from pyarrow.parquet import write_table

    file = io.BytesIO()
    write_table(table, file, row_group_size=700, write_page_checksum=True)
    return file.getvalue()


def orc(table: Any) -> bytes:
    """The table as an ORC file."""
    from pyarrow.orc import write_table

    file = io.BytesIO()
    write_table(table, file)
    return file.getvalue()


BOTH = pytest.mark.parametrize("pack", [parquet, orc])


@BOTH
def test_every_row_is_an_event_in_order(pack: Callable[[Any], bytes]) -> None:
    """All rows of all groups come, in order, with their nested values and nulls."""
    rows = [
        {"n": n, "s": f"ü {n}", "l": [n, None], "o": {"b": n % 2 == 0}, "z": None if n % 3 else n} for n in range(3000)
    ]
    assert unpack(pack(pa.Table.from_pylist(rows))) == rows


@BOTH
def test_what_json_cannot_show_is_text(pack: Callable[[Any], bytes]) -> None:
    """Decimals keep their digits, times their precision, and nothing becomes a float or NaN by the way."""
    stamps = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC"))
    table = pa.table(
        {
            "stamp": stamps,
            "stamps": pa.array([[1], []], pa.list_(pa.timestamp("us", "UTC"))),
            "day": pa.array([20_000, None], pa.date32()),
            "price": pa.array([Decimal("1.50"), None], pa.decimal128(20, 2)),
            "big": pa.array([2**63 - 1, -(2**63)], pa.int64()),
            "raw": pa.array([b"\xff\x00", None], pa.binary()),
            "float": pa.array([float("nan"), float("-inf")], pa.float64()),
            "map": pa.array([[("a", 1), ("b", 2)], None], pa.map_(pa.string(), pa.int64())),
        }
    )
    first, second = unpack(pack(table))
    assert first == {
        "stamp": "2023-11-14 22:13:20.123456789Z",
        "stamps": [first["stamps"][0]],
        "day": "2024-10-04",
        "price": "1.50",
        "big": 2**63 - 1,
        "raw": "/wA=",
        "float": "NaN",
        "map": {"a": 1, "b": 2},
    }
    assert first["stamps"][0].startswith("1970-01-01 00:00:00.000001")
    assert (second["big"], second["float"], second["stamp"], second["map"]) == (-(2**63), "-Infinity", None, None)


@BOTH
def test_a_truncated_file_is_corrupt(pack: Callable[[Any], bytes]) -> None:
    """A file cut anywhere is corrupt: no row of it comes out as if it were whole."""
    stored = pack(pa.table({"n": list(range(100)), "s": ["text"] * 100}))
    for length in range(20, len(stored), 7):
        with pytest.raises(FileCorrupt, match="2026/11/23/a"):
            unpack(stored[:length])


@BOTH
@pytest.mark.parametrize(("first", "second"), [(3, 3), (0, 3), (3, 0), (5000, 3), (3, 5000)])
def test_files_behind_each_other_are_an_error(pack: Callable[[Any], bytes], first: int, second: int) -> None:
    """Only the last file's footer is found, so rows would be lost, or taken from the wrong file."""
    files = [pack(pa.table({"n": pa.array(range(rows), pa.int64())})) for rows in (first, second)]
    with pytest.raises(FileCorrupt, match="data is corrupt"):
        unpack(b"".join(files))


def test_a_reason_does_not_name_a_file_of_ours() -> None:
    """Where the reader puts a file on disk is nobody's business, and another place in every run."""
    with pytest.raises(FileCorrupt, match="schema from 'the file'"):
        unpack(orc(pa.table({"n": [1]}))[:-1])


def test_a_wrong_byte_in_a_page_is_found() -> None:
    """Where a Parquet file has checksums of its pages, they are compared."""
    stored = bytearray(parquet(pa.table({"s": ["some text that is stored as it is"]})))
    stored[stored.index(b"some text") + 3] ^= 1
    with pytest.raises(FileCorrupt, match="Parquet data is corrupt"):
        unpack(bytes(stored))


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the extra that is missing."""
    monkeypatch.setattr("export_pipeline.source.columnar_process.find_spec", lambda name: None)
    with pytest.raises(FileCorrupt, match=r'pip install "export-pipeline\[parquet\]"'):
        unpack(b"PAR1" + b"\0" * 100)


def test_nothing_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy that is read from is gone afterwards, also after an error."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stored = parquet(pa.table({"n": [1]}))
    assert unpack(stored) == [{"n": 1}]
    with pytest.raises(FileCorrupt):
        unpack(stored[:-6])
    assert list(tmp_path.iterdir()) == []


def shown(kind: Any, items: list[Any]) -> list[Any]:
    """*items*, in a column of type *kind*, as they come out of a Parquet file."""
    return [row["c"] for row in unpack(parquet(pa.table({"c": pa.array(items, kind)})))]


def ints(kind: Any, items: list[int | None], stored: Any) -> Any:
    """An array of *kind* by the integers that it stores."""
    return pa.array(items, stored).view(kind)


@pytest.mark.parametrize(
    ("kind", "items", "expected"),
    [
        (pa.uuid(), [bytes(range(16)), None], ["00010203-0405-0607-0809-0a0b0c0d0e0f", None]),
        (pa.json_(), ['{"a":1}'], ['{"a":1}']),
        (pa.bool8(), [1, None], [True, None]),
        (pa.map_(pa.binary(), pa.int8()), [[(b"\x01\xfe", 7)], [], None], [{"Af4=": 7}, {}, None]),
        (pa.map_(pa.int64(), pa.string()), [[(1, "a"), (-2, None)]], [{"1": "a", "-2": None}]),
        (pa.map_(pa.date32(), pa.bool_()), [[(0, True)]], [{"1970-01-01": True}]),
        (pa.map_(pa.bool_(), pa.bool_()), [[(True, False)]], [{"true": False}]),
        (pa.decimal128(38, 0), [10**37], [str(10**37)]),
        (pa.decimal256(76, 3), [Decimal("-0.001")], ["-0.001"]),
        (pa.decimal32(5, 2), [Decimal("1.50")], ["1.50"]),
        (pa.time32("ms"), [86_399_999], ["23:59:59.999"]),
        (pa.time64("ns"), [1], ["00:00:00.000000001"]),
        (pa.duration("us"), [-1_500_000], [-1_500_000]),
        (pa.float16(), [1.5, None], [1.5, None]),
        (pa.float32(), [0.1], [0.10000000149011612]),
        (pa.large_string(), ["a"], ["a"]),
        (pa.string_view(), ["a"], ["a"]),
        (pa.large_binary(), [b"\xff"], ["/w=="]),
        (pa.binary_view(), [b"\xff"], ["/w=="]),
        (pa.binary(2), [b"\xff\xfe"], ["//4="]),
        (pa.large_list(pa.date32()), [[0, None], None, []], [["1970-01-01", None], None, []]),
        (pa.list_(pa.binary(), 2), [[b"a", b"b"], None], [["YQ==", "Yg=="], None]),
        (pa.struct([("a", pa.struct([("b", pa.list_(pa.date32()))]))]), [{"a": {"b": [0]}}, {"a": None}, None],
         [{"a": {"b": ["1970-01-01"]}}, {"a": None}, None]),
        (pa.dictionary(pa.int8(), pa.string()), ["a", None, "a"], ["a", None, "a"]),
        (pa.null(), [None], [None]),
        (pa.uint64(), [2**64 - 1], [2**64 - 1]),
        (pa.timestamp("s", "Europe/Berlin"), [0], ["1970-01-01 01:00:00.000+0100"]),
        (pa.timestamp("us", "Nowhere/Land"), [0], ["1970-01-01 00:00:00.000000Z"]),
    ],
    ids=str,
)  # fmt: skip
def test_every_type_has_one_form(kind: Any, items: list[Any], expected: list[Any]) -> None:
    """Each type that a Parquet file can hold comes out in the form that docs/sources.md names."""
    assert shown(kind, items) == expected


@pytest.mark.parametrize(
    ("kind", "stored", "number", "expected"),
    [
        (pa.date32(), pa.int32(), 2_932_897, "+010000-01-01"),
        (pa.date32(), pa.int32(), -719_529, "-000001-12-31"),
        (pa.date32(), pa.int32(), 2**31 - 1, "+5881580-07-11"),
        (pa.date32(), pa.int32(), -(2**31), "-5877641-06-23"),
        (pa.date32(), pa.int32(), -719_528, "0000-01-01"),
        (pa.timestamp("us"), pa.int64(), 2**63 - 1, "+294247-01-10 04:00:54.775807"),
        (pa.timestamp("us"), pa.int64(), -(2**63), "-290308-12-21 19:59:05.224192"),
        (pa.timestamp("ms", "UTC"), pa.int64(), 253_402_300_800_000, "+010000-01-01 00:00:00.000Z"),
        (pa.timestamp("ns"), pa.int64(), 2**63 - 1, "2262-04-11 23:47:16.854775807"),
        (pa.timestamp("ns"), pa.int64(), -(2**63), "1677-09-21 00:12:43.145224192"),
    ],
)
def test_times_beyond_python_are_exact(kind: Any, stored: Any, number: int, expected: str) -> None:
    """A year that Python's dates do not have has a sign and six digits, as ECMAScript's format has it."""
    rows = unpack(parquet(pa.table({"c": ints(kind, [number, 0], stored)})))
    assert rows[0]["c"] == expected
    assert rows[1]["c"].startswith("1970-01-01")


def test_what_only_arrow_has_is_shown_too() -> None:
    """List views, runs, unions and calendar intervals, which no writer of Parquet makes today."""
    from export_pipeline.source.columnar_values import values

    assert values(pa.array([[0], None], pa.list_view(pa.date32()))) == [["1970-01-01"], None]
    assert values(pa.array([[0], None], pa.large_list_view(pa.date32()))[1:]) == [None]
    assert values(pa.array(["a", "a"], pa.run_end_encoded(pa.int32(), pa.string()))) == ["a", "a"]
    assert values(pa.array([(1, 2, 3)], pa.month_day_nano_interval())) == [{"months": 1, "days": 2, "nanoseconds": 3}]
    children = [pa.array([1]), pa.array([b"x", None])]
    union = pa.UnionArray.from_dense(pa.array([0, 1, 1], pa.int8()), pa.array([0, 0, 1], pa.int32()), children)
    assert (values(union), values(union[1:])) == ([1, "eA==", None], ["eA==", None])


def test_int96_is_exact_or_an_error() -> None:
    """Time stamps of the old kind are right in every century, of which Arrow by itself makes other times."""
    from pyarrow.parquet import write_table

    def int96(microseconds: list[int | None], nanoseconds: list[int] | None = None) -> bytes:
        file = io.BytesIO()
        columns = {"t": pa.array(microseconds, pa.timestamp("us"))}
        if nanoseconds is not None:
            columns["u"] = pa.array(nanoseconds, pa.timestamp("ns"))
        write_table(pa.table(columns), file, use_deprecated_int96_timestamps=True)
        return file.getvalue()

    assert [row["t"] for row in unpack(int96([253_402_300_799_000_000, -62_135_596_800_000_000, None, 1]))] == [
        "9999-12-31 23:59:59.000000",
        "0001-01-01 00:00:00.000000",
        None,
        "1970-01-01 00:00:00.000001",
    ]
    assert unpack(int96([1], [1])) == [{"t": "1970-01-01 00:00:00.000001000", "u": "1970-01-01 00:00:00.000000001"}]
    with pytest.raises(FileCorrupt, match="cannot be represented in JSON: INT96 timestamps before 1677 or after 2262"):
        unpack(int96([253_402_300_799_000_000], [1]))


def test_orc_times_beyond_its_reader_are_an_error() -> None:
    """Arrow reads ORC's time stamps in nanoseconds: one that does not fit is an error, never another time."""
    with pytest.raises(FileCorrupt, match="253402300799"):
        unpack(orc(pa.table({"t": pa.array([253_402_300_799_000_000], pa.timestamp("us"))})))


def test_nothing_is_lost_to_a_name_that_is_there_twice() -> None:
    """Two columns, two fields or two keys of one name make the file an error that tells the name."""
    two = pa.table([pa.array([1]), pa.array([2])], names=["amount", "amount"])
    with pytest.raises(FileCorrupt, match=r"cannot be represented in JSON: two columns are named 'amount', "):
        unpack(parquet(two))
    fields = pa.struct([pa.field("x", pa.int8()), pa.field("x", pa.int8())])
    nested = pa.StructArray.from_arrays([pa.array([1], pa.int8())] * 2, fields=list(fields))
    with pytest.raises(FileCorrupt, match=r"two columns are named 'x' in o, "):
        unpack(parquet(pa.table({"o": nested})))
    with pytest.raises(FileCorrupt, match=r"column m: a map has the same key twice"):
        unpack(parquet(pa.table({"m": pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int8()))})))


@BOTH
def test_a_file_without_rows_has_no_events(pack: Callable[[Any], bytes]) -> None:
    """No row, or no column either: the file is sound and empty."""
    assert unpack(pack(pa.table({"n": pa.array([], pa.int64())}))) == []


def test_a_file_without_columns_has_no_events() -> None:
    """Not even a column."""
    assert unpack(parquet(pa.table({}))) == []


def test_a_text_that_is_no_text_is_an_error() -> None:
    """Bytes that are not UTF-8 in a text column are reported, with the column."""
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    with pytest.raises(FileCorrupt, match="column s: a string is not valid UTF-8"):
        unpack(parquet(pa.table({"s": text})))
