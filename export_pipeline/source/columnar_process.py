"""Reading Parquet and ORC in a process of its own, whose memory is limited.

Starting one takes half a second, so one that is done with a file is kept for the next. One that ran out of memory, or
whose file was not read to its end, is ended.
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

    # Its table of contents lies at the end, so it is put on disk first.
    with NamedTemporaryFile() as spool:
        for chunk in chunks:
            spool.write(chunk)
        spool.flush()
        yield from read_lines(spool.name, key, name)


MEMORY_BYTES = 512 * MIB
"""What the process may take in all, Python and Arrow themselves included: about 100 MiB. Linux sees to it."""

# Fewer rows at a time where the memory does not do for more: rows may be large, or a dictionary's.
_ROWS_AT_ONCE = (500, 20, 1)
_PIECE_BYTES = 256 * KIB
_idle: "list[_Worker]" = []
_lock = Lock()


def read_lines(path: str, key: str, name: str) -> Generator[bytes, None, None]:
    """The rows of the file at *path* as lines of JSON, in pieces.

    Args:
        key: for the error messages.
        name: of the format: ``Parquet`` or ``ORC``.

    Raises:
        FileCorrupt: damaged, of a schema or with a value that JSON cannot show, or its reader crashed.
        FileOverLimit: one row takes more memory than there is.
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
                trouble = "cannot be shown in JSON" if frame.kind == NO_FORM else "is damaged"
                raise FileCorrupt(key, f"the {name} data {trouble}: {reason}")
            # Some of the libraries under Arrow end the process where memory does not do: fewer rows may.
            status = worker.wait() if frame is None else 0
        except EOFError:
            raise FileCorrupt(
                key, f"the process that reads the {name} data was ended ({_told(worker.wait())})"
            ) from None
        finally:
            worker.end()
    if status in (0, -signal.SIGKILL):
        raise FileOverLimit(key, f"a row of the {name} data needs more than {MEMORY_BYTES} bytes of memory to unpack")
    raise FileCorrupt(key, f"the {name} data makes its reader crash ({_told(status)})")


class _Frame(NamedTuple):
    kind: bytes
    rows: int
    size_bytes: int


class _Worker:
    """One process; used by one reader at a time."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            # Wherever this package was imported from, it is found again.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # Arrow's other allocators set aside more than they need, and give back late.
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
        """Begin with a file."""
        self.is_kept = False
        assert self._process.stdin is not None  # noqa: S101 (it is a pipe)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it ended: the answer is empty, too

    def frame(self) -> _Frame | None:
        """The next one, as far as its bytes; None: the process has ended."""
        header = self.read(HEADER.size)
        return _Frame(*HEADER.unpack(header)) if len(header) == HEADER.size else None

    def pieces(self, size_bytes: int) -> Generator[bytes, None, None]:
        """The bytes of a frame."""
        while size_bytes:
            piece = self.read(min(size_bytes, _PIECE_BYTES))
            if not piece:
                raise EOFError("the reader's process ended within a frame")
            size_bytes -= len(piece)
            yield piece

    def read(self, size_bytes: int) -> bytes:
        """So many bytes, or fewer where the process has ended."""
        stream: IO[bytes] | None = self._process.stdout
        assert stream is not None  # noqa: S101 (it is a pipe)
        return stream.read(size_bytes)

    def wait(self) -> int:
        """The exit status of a process that has closed its answers."""
        return self._process.wait()

    def end(self) -> None:
        """End the process, unless it was put back."""
        if not self.is_kept:
            self._process.kill()
            self.let_go()

    def let_go(self) -> None:
        """Wait for its end, which comes when its input ends."""
        self._close()
        self._process.wait()

    def forget(self) -> None:
        """After a fork: leave it to the process that started it."""
        self._close()
        self._process.returncode = 0

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            # Where it has ended, what it was asked may still wait to be written.
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
