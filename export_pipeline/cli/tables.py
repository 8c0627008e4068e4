"""Events as CSV or Parquet. The columns are known only after all events were seen, so rows are spooled to disk."""

import json
import re
from collections.abc import Iterator
from csv import QUOTE_ALL
from csv import writer as csv_writer
from io import TextIOWrapper
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from export_pipeline.cli.flattening import Cell, Columns
from export_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow

_ROWS_AT_ONCE = 10_000
# What a spreadsheet interprets as the start of a formula, and the full-width forms that some accept (OWASP).
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# The same after other separators: spreadsheets of countries that write 1,5 split at semicolons, others at tabs and
# bars. They ignore quotation marks inside such a cell, so for them its line ends also end rows.
_BEHIND_SEPARATOR = re.compile(r'([;\t|\r\n][ "]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])')
_SEPARATOR = re.compile(r"[;\t|]")
_INT64 = range(-(2**63), 2**63)
_EXACT_DOUBLES = range(-(2**53), 2**53 + 1)


class SpooledRows:
    """Rows on disk, compressed. A row can be shorter than the table: columns added later are empty in it.

    Args:
        max_columns: maximum number of columns; the rest goes into one more.
    """

    def __init__(self, max_columns: int) -> None:
        from backports import zstd

        self.columns = Columns(max_columns)
        self._file = TemporaryFile()  # noqa: SIM115 (closed by close)
        self._packed = zstd.open(self._file, "wb", level=1)

    def add(self, line: bytes) -> list[Cell]:
        """Append the event *line* as a row."""
        row = self.columns.row(line)
        self._packed.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        return row

    def __iter__(self) -> Iterator[list[Cell]]:
        """All rows; none can be added afterwards."""
        from backports import zstd

        self._packed.close()
        if not self._file.tell():  # without rows not even an empty frame was written
            return
        self._file.seek(0)
        with zstd.open(self._file, "rb") as unpacked:
            for line in unpacked:
                yield json.loads(line)

    def close(self) -> None:
        """Delete the rows from disk."""
        self._file.close()


class CsvTable:
    """CSV (RFC 4180), in UTF-8, with a header."""

    def __init__(self, output: IO[bytes], max_columns: int) -> None:
        self._output = output
        self._rows = SpooledRows(max_columns)

    def add(self, data: bytes) -> None:
        """Add a batch of NDJSON."""
        for line in data.split(b"\n")[:-1]:
            self._rows.add(line)

    def finish(self) -> None:
        """Write all rows."""
        # An unpaired surrogate is valid JSON, but not valid UTF-8.
        text = TextIOWrapper(self._output, "utf-8", errors="backslashreplace", newline="", write_through=True)
        names = self._rows.columns.names
        out, quoting = csv_writer(text), csv_writer(text, quoting=QUOTE_ALL)

        def write(cells: list[str]) -> None:
            (quoting if any(map(_SEPARATOR.search, cells)) else out).writerow(cells)

        if names:
            write([_csv_cell(name) for name in names])
        for row in self._rows:
            write([*map(_csv_cell, row), *[""] * (len(names) - len(row))])
        text.detach()

    def close(self) -> None:
        """Delete the rows from disk."""
        self._rows.close()


class ParquetTable:
    """Parquet with a typed column for each path; a path with values of several types is text."""

    def __init__(self, output: IO[bytes], max_columns: int) -> None:
        try:
            import pyarrow.parquet  # noqa: F401 (reported before anything is read)
        except ModuleNotFoundError:
            raise ConfigurationError(
                '--format parquet needs pyarrow, which is not installed: pip install "export-pipeline[parquet]"'
            ) from None
        self._output = output
        self._rows = SpooledRows(max_columns)
        self._kinds: list[set[str]] = []

    def add(self, data: bytes) -> None:
        """Add a batch of NDJSON."""
        for line in data.split(b"\n")[:-1]:
            row = self._rows.add(line)
            self._kinds += [set() for _ in range(len(row) - len(self._kinds))]
            for kinds, value in zip(self._kinds, row, strict=False):
                if value is not None:
                    kinds.add(_kind(value))

    def finish(self) -> None:
        """Write all rows."""
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        types = [_arrow_type(kinds) for kinds in self._kinds]
        schema = pyarrow.schema(list(zip(self._rows.columns.names, types, strict=True)))
        with ParquetWriter(self._output, schema, compression="zstd") as writer:
            rows = iter(self._rows)
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                writer.write_table(
                    pyarrow.table([_array(some, n, kind) for n, kind in enumerate(types)], schema=schema)
                )

    def close(self) -> None:
        """Delete the rows from disk."""
        self._rows.close()


def _csv_cell(value: Cell) -> str:
    """The text of a cell. What would run as a formula, whatever a spreadsheet splits at, gets an apostrophe."""
    if isinstance(value, str):
        defused = _BEHIND_SEPARATOR.sub(r"\1'", value)
        return f"'{defused}" if value.startswith(_FORMULAS) else defused
    return "" if value is None else json.dumps(value)


def _kind(value: Cell) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "small int" if value in _EXACT_DOUBLES else "int" if value in _INT64 else "text"
    return "float" if isinstance(value, float) else "text"


def _arrow_type(kinds: set[str]) -> "pyarrow.DataType":
    import pyarrow

    if kinds == {"bool"}:
        return pyarrow.bool_()
    if kinds and kinds <= {"small int", "int"}:
        return pyarrow.int64()
    # An integer above 2^53 would lose digits as a double.
    return pyarrow.float64() if kinds and kinds <= {"small int", "float"} else pyarrow.string()


def _array(rows: list[list[Cell]], number: int, kind: "pyarrow.DataType") -> Any:
    import pyarrow

    values = [row[number] if number < len(row) else None for row in rows]
    if kind == pyarrow.string():
        values = [None if value is None else _parquet_text(value) for value in values]
    return pyarrow.array(values, type=kind)


def _parquet_text(value: Cell) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "backslashreplace").decode()
