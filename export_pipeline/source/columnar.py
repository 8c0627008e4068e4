"""Parquet and ORC: each row becomes an event.

What JSON has no value for is written as text, exactly; docs/sources.md has the table of forms. What has no exact form,
such as two columns of one name, makes the file an error. The reading itself is done by a process of its own, whose
memory is limited (:mod:`export_pipeline.source.columnar_process`).
"""

from collections.abc import Iterator
from importlib.util import find_spec
from tempfile import NamedTemporaryFile

from export_pipeline.errors import FileCorrupt


def unpack_parquet(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The rows of a Parquet file as lines of JSON, in pieces.

    Raises:
        FileCorrupt: truncated, a wrong checksum, a value that JSON cannot show, or pyarrow is not installed.
        FileOverLimit: a row needs more memory than the process that reads it may take.
    """
    return _unpack(chunks, key, "Parquet")


def unpack_orc(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The rows of an ORC file, as :func:`unpack_parquet`."""
    return _unpack(chunks, key, "ORC")


def _unpack(chunks: Iterator[bytes], key: str, name: str) -> Iterator[bytes]:
    if find_spec("pyarrow") is None:
        reason = f'a file in {name}, for which pyarrow must be installed: pip install "export-pipeline[parquet]"'
        raise FileCorrupt(key, reason)
    from export_pipeline.source.columnar_process import read_lines

    # Its table of contents lies at the end, so it is put on disk first.
    with NamedTemporaryFile() as spool:
        for chunk in chunks:
            spool.write(chunk)
        spool.flush()
        yield from read_lines(spool.name, key, name)
