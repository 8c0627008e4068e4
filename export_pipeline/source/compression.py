"""From a file's bytes as stored to its text: decompresses and unpacks, up to three layers.

Packings are detected from magic bytes (``magic``), text from its content (``text``); everything else is rejected.
"""

from collections.abc import Iterable, Iterator

from export_pipeline.errors import FileCorrupt
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.magic import HEAD_BYTES, SUPPORTED, recognise
from export_pipeline.source.stored import peek
from export_pipeline.source.text import read_text
from export_pipeline.source.unpacking import PIECE_BYTES, Checkpoint, Unpacking, go_on

__all__ = ["PIECE_BYTES", "decompress"]


def decompress(
    chunks: Iterable[bytes], *, key: str, size_bytes: int, limits: ReadLimits, checkpoint: Checkpoint = go_on
) -> Iterator[bytes]:
    """The text of a file, in UTF-8, in pieces of at most ``PIECE_BYTES``, none of them empty.

    The files of a zip archive follow each other in the archive's order; if one does not end with a line feed and
    another follows, a line feed is inserted. The rows of a Parquet or ORC file become JSON lines.

    Args:
        chunks: the file as stored.
        key: for the error messages.
        size_bytes: of the file as listed.
        checkpoint: called every few mebibytes of decompressed data; may raise to stop.

    Raises:
        FileCorrupt: truncated, a wrong checksum, not what its magic bytes promise, an unsupported format, not text, or
            not *size_bytes* long.
        FileOverLimit: it decompresses to more than the limits allow, needs too much memory, or has too many layers.
    """
    job = Unpacking(key, size_bytes, limits, checkpoint)
    return _text_of(_exactly(chunks, job), job)


def _exactly(chunks: Iterable[bytes], job: Unpacking) -> Iterator[bytes]:
    read = 0
    for chunk in chunks:
        job.checkpoint()
        read += len(chunk)
        yield chunk
    if read != job.size_bytes:
        raise FileCorrupt(job.key, f"{read} bytes were read, but {job.size_bytes} were listed")


def _text_of(pieces: Iterator[bytes], job: Unpacking) -> Iterator[bytes]:
    """The text in *pieces*, which are the output of ``job.packings``."""
    head, pieces = peek(pieces, HEAD_BYTES)
    packing = recognise(head, job.key)
    if packing is None:
        yield from read_text(pieces, job, SUPPORTED)
        return
    inner = job.inside(packing.name)
    if packing.is_spooled and job.packings:
        pieces = inner.spoolable(pieces)
    last = b"\n"
    for file in packing.files(pieces, inner):
        unpacked = inner.counted(file)
        for n, piece in enumerate(unpacked if packing.is_table else _text_of(unpacked, inner)):
            if n == 0 and last != b"\n":
                yield b"\n"
            yield piece
            last = piece[-1:]
