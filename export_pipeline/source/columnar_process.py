"""Reads Parquet and ORC in a separate process with a memory limit.

Starting a process takes half a second, so one that has finished a file is kept for the next. A process that ran out of
memory, or whose file was not read to the end, is terminated.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from importlib.util import find_spec
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import IO, NamedTuple

from export_pipeline.errors import FileCorrupt, FileOverLimit
from export_pipeline.printable import printable
from export_pipeline.source.columnar_worker import END, HEADER, LINES, NO_FORM, NO_MEMORY
from export_pipeline.source.file import KIB, MIB

MEMORY_BYTES = 512 * MIB
"""Memory limit of the process, including about 100 MiB for Python and Arrow themselves. Linux enforces it."""

# Fewer rows at a time when memory runs out: rows, or the values of a dictionary, may be large.
_ROWS_AT_ONCE = (500, 20, 1)
_PIECE_BYTES = 256 * KIB
_idle: "list[_Worker]" = []
_lock = Lock()


def unpack_parquet(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The rows of a Parquet file as JSON lines, in pieces.

    Raises:
        FileCorrupt: truncated, a wrong checksum, a value without a JSON form, or pyarrow is not installed.
        FileOverLimit: a row needs more memory than the reading process may use.
    """
    return _unpack(chunks, key, "Parquet")


def unpack_orc(chunks: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The rows of an ORC file, as :func:`unpack_parquet`."""
    return _unpack(chunks, key, "ORC")


def _unpack(chunks: Iterator[bytes], key: str, name: str) -> Iterator[bytes]:
    if find_spec("pyarrow") is None:
        reason = f'reading {name} requires pyarrow, which is not installed: pip install "export-pipeline[parquet]"'
        raise FileCorrupt(key, reason)

    # The footer is at the end, so the file is written to disk first.
    with NamedTemporaryFile() as spool:
        for chunk in chunks:
            spool.write(chunk)
        spool.flush()
        yield from read_lines(spool.name, key, name)


def read_lines(path: str, key: str, name: str) -> Generator[bytes, None, None]:
    """The rows of the file at *path* as JSON lines, in pieces.

    Args:
        key: for the error messages.
        name: of the format: ``Parquet`` or ``ORC``.

    Raises:
        FileCorrupt: corrupt, a schema or a value without a JSON form, or its reader crashed.
        FileOverLimit: one row needs more memory than the limit.
    """
    skip = 0
    for most_rows in _ROWS_AT_ONCE:
        worker = _take()
        try:
            worker.ask(path=path, name=name, most_rows=most_rows, skip=skip)
            while (frame := worker.frame()) is not None and frame.kind == LINES:
                yield from worker.pieces(frame.size_bytes)
                skip += frame.rows
            if frame is not None and frame.kind != NO_MEMORY:
                reason = printable(worker.read(frame.size_bytes).decode())
                _put_back(worker)
                if frame.kind == END:
                    return
                trouble = "cannot be represented in JSON" if frame.kind == NO_FORM else "is corrupt"
                raise FileCorrupt(key, f"the {name} data {trouble}: {reason}")
            # Some libraries under Arrow terminate the process when memory runs out: fewer rows at a time may fit.
            status = worker.wait() if frame is None else 0
        except EOFError:
            raise FileCorrupt(
                key, f"the process that reads the {name} data was terminated ({_told(worker.wait())})"
            ) from None
        finally:
            worker.end()
    if status in (0, -signal.SIGKILL):
        raise FileOverLimit(key, f"a row of the {name} data needs more than {MEMORY_BYTES} bytes of memory to unpack")
    raise FileCorrupt(key, f"reading the {name} data crashes the reader ({_told(status)})")


class _Frame(NamedTuple):
    kind: bytes
    rows: int
    size_bytes: int


class _Worker:
    """One process; used by one reader at a time."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            # The process must find this package wherever it was imported from.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # Arrow's other allocators reserve more than they need, and return memory late.
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "MALLOC_ARENA_MAX": "1",
        }
        command = [sys.executable, "-m", "export_pipeline.source.columnar_worker", str(MEMORY_BYTES)]
        self.owner = os.getpid()
        self.is_kept = False
        self._process = subprocess.Popen(  # noqa: S603 (this interpreter and a module of this package)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )

    def ask(self, **request: str | int) -> None:
        """Start reading a file."""
        self.is_kept = False
        assert self._process.stdin is not None  # noqa: S101 (it is a pipe)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it ended: the answer is empty, too

    def frame(self) -> _Frame | None:
        """The next frame's header; None: the process has ended."""
        header = self.read(HEADER.size)
        return _Frame(*HEADER.unpack(header)) if len(header) == HEADER.size else None

    def pieces(self, size_bytes: int) -> Generator[bytes, None, None]:
        """The bytes of a frame."""
        while size_bytes:
            piece = self.read(min(size_bytes, _PIECE_BYTES))
            if not piece:
                raise EOFError("the reading process ended within a frame")
            size_bytes -= len(piece)
            yield piece

    def read(self, size_bytes: int) -> bytes:
        """That many bytes, or fewer if the process has ended."""
        stream: IO[bytes] | None = self._process.stdout
        assert stream is not None  # noqa: S101 (it is a pipe)
        return stream.read(size_bytes)

    def wait(self) -> int:
        """The exit status of a process that has closed its output."""
        return self._process.wait()

    def end(self) -> None:
        """Terminate the process, unless it was put back for reuse."""
        if not self.is_kept:
            self._process.kill()
            self.let_go()

    def let_go(self) -> None:
        """Wait for the process to end, which it does when its input ends."""
        self._close()
        self._process.wait()

    def forget(self) -> None:
        """After a fork: leave the process to its parent."""
        self._close()
        self._process.returncode = 0

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            # If it has ended, its last request may still be waiting to be written.
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()


def _take() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.owner == os.getpid():
                return worker
            worker.forget()
    return _Worker()


def _put_back(worker: _Worker) -> None:
    worker.is_kept = True
    with _lock:
        _idle.append(worker)


def _end_idle() -> None:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.owner == os.getpid():
                worker.let_go()
            else:
                worker.forget()


atexit.register(_end_idle)


def _told(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
