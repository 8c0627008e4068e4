"""``export-pipeline events``: pull one day's events, like Altis' ``GET events/<date>?format=json|csv``."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import date
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, Annotated, Literal, Protocol

import typer

from export_pipeline.cli.session import Session
from export_pipeline.errors import ConfigurationError
from export_pipeline.quantities import counted, sized

if TYPE_CHECKING:
    from export_pipeline.batching.reading import ManifestReading
    from export_pipeline.cli.outline import Outline

Format = Literal["ndjson", "csv", "parquet"]
DayArgument = Annotated[str, typer.Argument(metavar="DATE", help="The day, YYYY-MM-DD, as encoded in the files' keys.")]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        help="ndjson: the events as they are, one per line. csv, parquet: nested objects as dotted columns. By default "
        "detected from the extension of FILE, else ndjson.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Where to write; standard output by default.", show_default=False
    ),
]
ColumnsOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="csv, parquet: maximum number of columns; the rest goes into the column _more, as JSON.",
    ),
]


class Writer(Protocol):
    """Writes the events of a day in one format."""

    def add(self, data: bytes) -> None:
        """Add a batch of NDJSON."""

    def finish(self) -> None:
        """All batches were added: write what is not written yet."""

    def close(self) -> None:
        """Release resources, whether or not writing succeeded."""


def events(
    session: Session,
    day: DayArgument,
    *,
    format: FormatOption = None,
    output: OutputOption = None,
    max_columns: ColumnsOption = 1_000,
) -> int:
    """Pull the events of one day directly from the source.

    All events of the day, regardless of what was delivered to whom. Files are read as in an export. Malformed records
    are left out, and counted on standard error. In CSV, text that a spreadsheet would interpret as a formula gets an
    apostrophe in front. FILE is written under a temporary name and renamed when complete.
    """
    try:
        wanted = date.fromisoformat(day)
    except ValueError:
        raise ConfigurationError(f"found {day!r}; allowed: a date, YYYY-MM-DD") from None
    chosen = _format(format, output)
    if output is None and chosen == "parquet" and sys.stdout.isatty():
        raise ConfigurationError(
            "Parquet is binary and is not written to a terminal: give --output FILE, or use a pipe"
        )
    outline = session.outline()
    with _opened(output) as stream, closing(_writer(chosen, stream, max_columns)) as writer:
        reading = _read(outline, wanted, writer)
        writer.finish()
    aside = reading.events_quarantined
    left_out = f"; {counted(aside, 'malformed record')} left out" if aside else ""
    session.note(
        f"{counted(reading.events_batched, 'event')} of {wanted} in {counted(len(reading.files), 'file')} "
        f"({sized(reading.bytes_unpacked)}){left_out}"
    )
    return 0


def _format(given: Format | None, output: Path | None) -> Format:
    if given is not None:
        return given
    endings: dict[str, Format] = {".csv": "csv", ".parquet": "parquet"}
    return endings.get(output.suffix.lower(), "ndjson") if output else "ndjson"


def _read(outline: "Outline", day: date, writer: Writer) -> "ManifestReading":
    """Hand all events of *day* to *writer*, batch by batch: memory holds a window of files and one batch."""
    from export_pipeline.batching.cutter import BatchLimits
    from export_pipeline.batching.quarantine import Quarantine
    from export_pipeline.batching.reading import read_manifest
    from export_pipeline.source.fetch import fetch_in_order
    from export_pipeline.source.layout import Layout
    from export_pipeline.source.store import open_source

    layout = Layout(outline.source.layout)
    with closing(open_source(outline.source)) as source:
        listed = source.list_files(prefix=layout.day_prefix(day))
        files = [file for file in listed if layout.date_of(file.key) == day]
        with closing(fetch_in_order(source, files)) as fetched:
            return read_manifest(
                files=fetched,
                manifest_id=f"events-{day}",
                day=day,
                stage=lambda _, parts: writer.add(b"".join(parts)),
                quarantine=Quarantine(_Nowhere()),
                batch_limits=BatchLimits(),
                read_limits=outline.limits,
            )


class _Nowhere:
    """An object store that discards everything: pulling events does not write to the quarantine."""

    def put(self, name: str, data: bytes) -> None:
        """Discard it."""

    def get(self, name: str) -> bytes:
        """It is always empty."""
        raise KeyError(name)

    def list(self, prefix: str = "") -> Iterator[str]:
        """It is always empty."""
        return iter(())

    def delete(self, name: str) -> None:
        """It is always empty."""


class _Lines:
    """NDJSON: the events as they are, one per line."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output

    def add(self, data: bytes) -> None:
        self._output.write(data)

    def finish(self) -> None:
        self._output.flush()

    def close(self) -> None:
        """Nothing to release."""


def _writer(chosen: Format, output: IO[bytes], max_columns: int) -> Writer:
    if chosen == "ndjson":
        return _Lines(output)
    from export_pipeline.cli.tables import CsvTable, ParquetTable

    return CsvTable(output, max_columns) if chosen == "csv" else ParquetTable(output, max_columns)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """The stream to write to. A file is renamed to its final name only when the block succeeds."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        hidden = NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False)  # noqa: SIM115
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error.strerror}") from None
    try:
        with hidden:
            yield hidden
        # The usual mode of a new file; NamedTemporaryFile's own mode denies access to all other users.
        os.chmod(hidden.name, 0o666 & ~_umask())
        os.replace(hidden.name, output)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(hidden.name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
