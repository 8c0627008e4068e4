"""The process that reads Parquet and ORC, so that no file can use more than its memory limit, or crash a run.

A kilobyte of either format can expand to gigabytes: a dictionary that all rows share, pages and stripes, run-length
encoded levels, a footer with false sizes; and Arrow itself has no limit. The operating system has: this process
runs under a memory limit. It is started by :mod:`export_pipeline.source.columnar_process`, takes requests from its
standard input and answers on its standard output.

Answers are frames, see :data:`HEADER`: a kind, a number of rows, a number of bytes, and those bytes. A file is a
sequence of frames with lines, then either ``END`` or an error.
"""

import json
import os
import re
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

HEADER = struct.Struct("<cIQ")
LINES, END, CORRUPT, NO_FORM, NO_MEMORY = b"L", b".", b"!", b"?", b"M"
# Average size of a batch's rows according to the footer, which may be false: the memory limit is the real bound.
_BATCH_BYTES = 4 * 1024 * 1024
_SHOWN_CHARACTERS = 500
# Where one file ends and another begins: the magic number at the end (for ORC with its length), then the next file's.
_SEAMS = {"Parquet": re.compile(rb"PAR1PAR[1E]"), "ORC": re.compile(rb"ORC.ORC", re.DOTALL)}
_SEAM_BYTES = 8


def main() -> None:
    """Answer requests until the input ends. Argument: the memory limit in bytes."""
    # Whoever ends the run ends this process by closing its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    most_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # What a library prints must not end up among the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import pyarrow as pa

    # Each library thread would need memory for its stack.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            _answer(answers, **request)
        except BrokenPipeError:
            return


def _answer(answers: IO[bytes], *, path: str, name: str, most_rows: int, skip: int) -> None:
    """One file: its lines from row *skip* on."""
    import pyarrow as pa

    try:
        for batch in _from(_READERS[name](path, most_rows), skip):
            _send(answers, LINES, _lines(batch), rows=batch.num_rows)
        _send(answers, END)
    except BrokenPipeError:
        raise
    except (MemoryError, pa.ArrowMemoryError):
        _send(answers, NO_MEMORY)
    except Exception as error:  # noqa: BLE001 (whatever a damaged file makes a library raise is an error of the file)
        kind = NO_FORM if type(error).__name__ == "NoForm" else CORRUPT
        text = str(error).replace(path, "the file") or type(error).__name__
        _send(answers, kind, " ".join(text.split())[:_SHOWN_CHARACTERS].encode("utf-8", "backslashreplace"))


def _send(answers: IO[bytes], kind: bytes, data: bytes = b"", *, rows: int = 0) -> None:
    whole = memoryview(HEADER.pack(kind, rows, len(data)) + data if len(data) < _BATCH_BYTES else data)
    if len(data) >= _BATCH_BYTES:
        answers.write(HEADER.pack(kind, rows, len(data)))
    while whole:
        whole = whole[answers.write(whole) :]


def _lines(batch: "pa.RecordBatch") -> bytes:
    from export_pipeline.source.columnar_values import lines

    return lines(batch)


def _from(batches: Iterator["pa.RecordBatch"], skip: int) -> Iterator["pa.RecordBatch"]:
    for batch in batches:
        left = batch.slice(min(skip, batch.num_rows))
        skip -= batch.num_rows - left.num_rows
        if left.num_rows:
            yield left


def _parquet(path: str, most_rows: int) -> Iterator["pa.RecordBatch"]:
    from pyarrow.parquet import ParquetFile

    from export_pipeline.source.columnar_values import NoForm, check_names

    # Without pre_buffer and with a small buffer a row group is read page by page, not whole.
    options: dict[str, Any] = {"pre_buffer": False, "buffer_size": 64 * 1024, "page_checksum_verification": True}
    with ParquetFile(path, **options) as file:
        unit = _int96_unit(path, file, options, most_rows)
    with ParquetFile(path, coerce_int96_timestamp_unit=unit, **options) as file:
        metadata = file.metadata
        check_names(file.schema_arrow)
        if metadata.num_rows and not metadata.num_columns:
            raise NoForm(f"it has {metadata.num_rows} rows and no columns")
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
        row_bytes = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
        rows = max(1, min(most_rows, _BATCH_BYTES // max(1, row_bytes)))
        _refuse_seams(path, "Parquet", _end_of_pages(groups))
        yield from file.iter_batches(batch_size=rows, use_threads=False)


def _end_of_pages(groups: list[Any]) -> int:
    """Where the pages end, which precede indexes, filters and the footer; 0: there are none."""
    columns = [groups[-1].column(n) for n in range(groups[-1].num_columns)] if groups else []
    starts = [(one.dictionary_page_offset or one.data_page_offset, one.total_compressed_size) for one in columns]
    return max((start + size_bytes for start, size_bytes in starts), default=0)


def _refuse_seams(path: str, name: str, start: int) -> None:
    """Make sure that no other file ends after *start*, where the file whose footer is read (the last) has no rows.

    Raises:
        ValueError: one does. Its rows would be dropped silently, or mistaken for rows of the last file.
    """
    last = b""
    with open(path, "rb") as file:
        file.seek(max(0, start))
        while piece := file.read(_BATCH_BYTES):
            if _SEAMS[name].search(last + piece):
                raise ValueError(
                    "it consists of several concatenated files, and only the last one's footer could be read"
                )
            last = piece[1 - _SEAM_BYTES :]


def _int96_unit(path: str, file: Any, options: dict[str, Any], most_rows: int) -> str | None:
    """The unit in which all INT96 timestamps of a file are exact; None: there are none.

    They count nanoseconds. Arrow silently converts those before 1677 or after 2262 to another time, because the value
    overflows; in microseconds it drops three digits. Comparing both shows what was written.
    """
    from pyarrow.parquet import ParquetFile

    from export_pipeline.source.columnar_values import NoForm

    columns = [file.schema.column(n) for n in range(len(file.schema))]
    names = sorted({one.path.split(".")[0] for one in columns if one.physical_type == "INT96"})
    if not names:
        return None
    is_far = has_nanoseconds = False
    wanted: dict[str, Any] = {"batch_size": most_rows, "columns": names, "use_threads": False}
    with (
        ParquetFile(path, coerce_int96_timestamp_unit="ns", **options) as fine,
        ParquetFile(path, coerce_int96_timestamp_unit="us", **options) as coarse,
    ):
        for batches in zip(fine.iter_batches(**wanted), coarse.iter_batches(**wanted), strict=True):
            for leaves in zip(*map(_stamps, batches), strict=True):
                for wrapped, cut in zip(*leaves, strict=True):
                    if cut is not None:
                        is_far = is_far or not -(2**63) <= cut * 1000 < 2**63 - 1000
                        has_nanoseconds = has_nanoseconds or (wrapped - cut * 1000) % 2**64 != 0
    if is_far and has_nanoseconds:
        raise NoForm("INT96 timestamps before 1677 or after 2262 occur together with others in nanoseconds")
    return "us" if is_far else "ns"


def _stamps(batch: "pa.RecordBatch") -> Iterator[list[int | None]]:
    """The numbers of all timestamps of a batch, leaf by leaf."""
    import pyarrow as pa
    from pyarrow import types

    left = list(batch.columns)
    while left:
        array = left.pop()
        if types.is_timestamp(array.type):
            yield array.cast(pa.int64()).to_pylist()
        elif types.is_struct(array.type) or types.is_list(array.type):
            flat = array.flatten()
            left += flat if isinstance(flat, list) else [flat]
        elif types.is_map(array.type):
            left += [array.keys, array.items]


def _orc(path: str, most_rows: int) -> Iterator["pa.RecordBatch"]:
    from pyarrow.dataset import dataset
    from pyarrow.orc import ORCFile

    from export_pipeline.source.columnar_values import check_names

    rows = dataset(path, format="orc")
    check_names(rows.schema)
    _refuse_seams(path, "ORC", ORCFile(path).content_length)
    yield from rows.to_batches(batch_size=most_rows, batch_readahead=0, fragment_readahead=0, use_threads=False)


_READERS = {"Parquet": _parquet, "ORC": _orc}

if __name__ == "__main__":
    main()
