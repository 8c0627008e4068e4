"""Parquet and ORC: each row becomes an event.

What JSON has no value for is written as text: decimals with all their digits; dates, times and time stamps as ISO 8601
has them, but with a space for the T (``2026-11-23 10:00:00.000001Z``, without the Z where a column knows no zone); NaN
and the infinities by name; bytes in base64. A duration is the number of its units, and a map an object.
"""

import json
import math
from base64 import b64encode
from collections.abc import Callable, Iterator
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from export_pipeline.errors import FileCorrupt

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are in memory at a time.
_ROWS = 500


def unpack_parquet(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The rows of a Parquet file as lines of JSON, many at a time.

    Raises:
        FileCorrupt: truncated, a wrong checksum, a type that JSON cannot show, or pyarrow is not installed.
    """
    return _unpack(chunks, key, "Parquet", _parquet_batches)


def unpack_orc(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The rows of an ORC file, as :func:`unpack_parquet`."""
    return _unpack(chunks, key, "ORC", _orc_batches)


def refuse_avro(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """Say what the file is, instead of quarantining its bytes line by line.

    Raises:
        FileCorrupt: always.
    """
    raise FileCorrupt(key, "an Avro file, which this version cannot read")


def _unpack(
    chunks: Iterator[bytes], key: str, name: str, batches: Callable[[str], Iterator["pa.RecordBatch"]]
) -> Iterator[bytes]:
    try:
        import pyarrow as pa
    except ImportError:
        reason = f'a file in {name}, for which pyarrow must be installed: pip install "export-pipeline[parquet]"'
        raise FileCorrupt(key, reason) from None
    # Its table of contents lies at the end, so it is put on disk first.
    with NamedTemporaryFile() as spool:
        for chunk in chunks:
            spool.write(chunk)
        spool.flush()
        try:
            for batch in batches(spool.name):
                yield b"".join(map(_line, _for_json(batch).to_pylist(maps_as_pydicts="strict")))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise FileCorrupt(key, f"the {name} data is damaged or cannot be shown in JSON: {error}") from None


def _parquet_batches(path: str) -> Iterator["pa.RecordBatch"]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, page_checksum_verification=True) as file:
        yield from file.iter_batches(batch_size=_ROWS, use_threads=False)


def _orc_batches(path: str) -> Iterator["pa.RecordBatch"]:
    from pyarrow.dataset import dataset

    rows = dataset(path, format="orc")
    yield from rows.to_batches(batch_size=_ROWS, batch_readahead=0, fragment_readahead=0, use_threads=False)


def _for_json(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """*batch* with texts instead of what Python, or JSON, does not show exactly."""
    import pyarrow as pa

    fields = [pa.field(field.name, _type_for_json(field.type)) for field in batch.schema]
    if [field.type for field in fields] == batch.schema.types:
        return batch
    columns = [column.cast(field.type) for column, field in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _type_for_json(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa
    from pyarrow import types

    if types.is_temporal(kind) or types.is_decimal(kind):
        return pa.int64() if types.is_duration(kind) else pa.string()
    if types.is_dictionary(kind):
        return _type_for_json(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _type_for_json(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_type_for_json(kind.key_type), _type_for_json(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_type_for_json(kind.value_type))
    return kind


def _line(row: dict[str, Any]) -> bytes:
    try:
        text = _dump(row)
    except ValueError:
        text = _dump(_with_named_floats(row))
    return text.encode() + b"\n"


def _dump(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_show)


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    raise ValueError(f"{type(value).__name__} has no form in JSON")


def _with_named_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_named_floats(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_named_floats(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
