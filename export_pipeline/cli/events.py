"""``export-pipeline events``: pull one day's events, as the original's ``GET events/<date>?format=json|csv`` did."""

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
DayArgument = Annotated[str, typer.Argument(metavar="DATE", help="The day, YYYY-MM-DD, as the files' keys tell it.")]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        help="ndjson: the events as they are, one a line. csv, parquet: nested objects as dotted columns. By default "
        "what the name of FILE ends in, else ndjson.",
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
        metavar="N", min=1, help="csv, parquet: most columns; what has none goes into the column _more, as JSON."
    ),
]


class Writer(Protocol):
    """Takes the events of a day."""

    def add(self, data: bytes) -> None:
        """Take a batch of NDJSON."""

    def finish(self) -> None:
        """All were taken: write what is not written yet."""

    def close(self) -> None:
        """Let go of what is held, however it ended."""


def events(
    session: Session,
    day: DayArgument,
    *,
    format: FormatOption = None,
    output: OutputOption = None,
    max_columns: ColumnsOption = 1_000,
) -> int:
    """Pull the events of one day straight from the source.

    All of them, whatever was delivered to whom. Files are read as the export reads them. What is no event is left
    out and counted on standard error. In CSV a text that a spreadsheet would take for a formula gets an apostrophe
    in front. FILE appears once it is complete.
    """
    try:
        wanted = date.fromisoformat(day)
    except ValueError:
        raise ConfigurationError(f"found {day!r}; allowed: a date, YYYY-MM-DD") from None
    chosen = _format(format, output)
    if output is None and chosen == "parquet" and sys.stdout.isatty():
        raise ConfigurationError("Parquet is not for terminals: give --output FILE, or send it through a pipe")
    outline = session.outline()
    with _opened(output) as stream, closing(_writer(chosen, stream, max_columns)) as writer:
        reading = _read(outline, wanted, writer)
        writer.finish()
    aside = reading.events_quarantined
    left_out = f"; {counted(aside, 'bad stretch', 'bad stretches')} left out" if aside else ""
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
    """An object store that keeps nothing: pulling events changes nothing in the quarantine."""

    def put(self, name: str, data: bytes) -> None:
        """Forget it."""

    def get(self, name: str) -> bytes:
        """Nothing is here."""
        raise KeyError(name)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Nothing is here."""
        return iter(())

    def delete(self, name: str) -> None:
        """Nothing is here."""


class _Lines:
    """NDJSON: the events as they are, one a line."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output

    def add(self, data: bytes) -> None:
        self._output.write(data)

    def finish(self) -> None:
        self._output.flush()

    def close(self) -> None:
        """Nothing is held."""


def _writer(chosen: Format, output: IO[bytes], max_columns: int) -> Writer:
    if chosen == "ndjson":
        return _Lines(output)
    from export_pipeline.cli.tables import CsvTable, ParquetTable

    return CsvTable(output, max_columns) if chosen == "csv" else ParquetTable(output, max_columns)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """Where to write. A file gets its name only when the block ends well."""
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
        # As any other program's file; NamedTemporaryFile's own mode lets nobody else read it.
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
