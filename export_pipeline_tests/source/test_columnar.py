"""Rows of Parquet and ORC become events, exactly."""

import builtins
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from export_pipeline.errors import FileCorrupt
from export_pipeline.source.compression import decompress
from export_pipeline.source.limits import ReadLimits

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


def test_a_wrong_byte_in_a_page_is_found() -> None:
    """Where a Parquet file has checksums of its pages, they are compared."""
    stored = bytearray(parquet(pa.table({"s": ["some text that is stored as it is"]})))
    stored[stored.index(b"some text") + 3] ^= 1
    with pytest.raises(FileCorrupt, match="Parquet data is damaged"):
        unpack(bytes(stored))


def test_avro_is_named() -> None:
    """An Avro file is refused for what it is, not taken apart into bad lines."""
    with pytest.raises(FileCorrupt, match="an Avro file, which this version cannot read"):
        unpack(b"Obj\x01" + b"\0" * 100)


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the extra that is missing."""
    real_import = builtins.__import__

    def no_pyarrow(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name == "pyarrow":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
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
