"""What a Parquet or ORC file may cost, whatever it says of itself: memory as the operating system measured it."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.errors import FileCorrupt
from export_pipeline.source import columnar_process
from export_pipeline.source.compression import decompress
from export_pipeline.source.file import KIB, MIB, ReadLimits
from export_pipeline_tests.source.test_columnar import orc, parquet, unpack

pa = pytest.importorskip("pyarrow")
LARGE = 24 * MIB
# A process of its own, which has loaded nothing else: a new process begins with the peak of the one that starts it.
MEASURE = """
import re, resource, sys
from export_pipeline.errors import FileOverLimit
from export_pipeline.source import columnar_process
from export_pipeline.source.compression import decompress
from export_pipeline.source.file import ReadLimits

stored = open(sys.argv[1], "rb").read()
try:
    for piece in decompress([stored], key="key", size_bytes=len(stored), limits=ReadLimits()):
        assert len(piece) <= 4 * 1024 * 1024
    print("it was read")
except FileOverLimit as error:
    print(f"{type(error).__name__}: {error}")
columnar_process._end_idle()
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def shared_text() -> Any:
    """600 rows that share one text, by a dictionary."""
    return pa.table({"note": pa.DictionaryArray.from_arrays(pa.array([0] * 600), pa.array(["x" * LARGE]))})


def dictionary_in_parquet() -> bytes:
    """A kilobyte or two that stand for 14 GiB."""
    from pyarrow.parquet import write_table

    file = io.BytesIO()
    write_table(shared_text(), file, compression="zstd", dictionary_pagesize_limit=2 * LARGE, write_statistics=False)
    return file.getvalue()


def dictionary_in_orc() -> bytes:
    """The same in ORC, whose writer takes texts only: eight of them."""
    from pyarrow.orc import write_table

    file = io.BytesIO()
    texts = pa.array(["x" * LARGE] * 8)
    write_table(pa.table({"note": texts}), file, compression="zstd", dictionary_key_size_threshold=1.0)
    return file.getvalue()


def one_endless_list() -> bytes:
    """One row with a list of 100 million nulls: their levels are packed by their run, and they have no values."""
    from pyarrow.parquet import write_table

    count = 100_000_000
    file = io.BytesIO()
    rows = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.nulls(count, pa.int8()))
    write_table(pa.table({"l": rows}), file, compression="zstd")
    return file.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits and tells a process's memory")
@pytest.mark.parametrize(
    "make", [dictionary_in_parquet, pytest.param(dictionary_in_orc, marks=pytest.mark.thorough), one_endless_list]
)
def test_no_file_takes_more_memory_than_its_process_may(make: Callable[[], bytes], tmp_path: Path) -> None:
    """What unpacks without bounds is refused for that, and neither process takes more memory than its bound."""
    path = tmp_path / "file"
    path.write_bytes(make())
    assert path.stat().st_size < MIB
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    reason, own_kib, child_kib = done.stdout.splitlines()
    assert reason.startswith(("FileOverLimit: key: unpacks to more than", "FileOverLimit: key: a row of the "))
    assert int(own_kib) * KIB < 100 * MIB
    # What is resident beyond RLIMIT_DATA is the code of Python and Arrow, which all processes share.
    assert int(child_kib) * KIB < columnar_process.MEMORY_BYTES + 150 * MIB


@pytest.mark.parametrize("pack", [parquet, pytest.param(orc, marks=pytest.mark.thorough)])
def test_rows_that_are_too_large_together_come_one_by_one(pack: Callable[[Any], bytes]) -> None:
    """Where the memory does not do for many rows at a time, fewer are read, and each comes once and in order."""
    rows = [{"n": n, "s": f"{n} " * 2} for n in range(600)]
    rows += [{"n": n, "s": "y" * (4 * MIB)} for n in range(600, 640)]
    stored = pack(pa.Table.from_pylist(rows))
    limits = ReadLimits(ratio_floor_bytes=1024 * MIB)
    pieces = decompress([stored], key="key", size_bytes=len(stored), limits=limits)
    lines = b"".join(pieces).splitlines()
    assert [line[:8] for line in lines] == [f'{{"n":{n},"s":"'.encode()[:8] for n in range(640)]
    assert {len(line) for line in lines[600:]} == {len('{"n":600,"s":""}') + 4 * MIB}


def test_a_reader_is_kept_and_never_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next file has the same process, also after an error of a file; two files at a time have two."""
    stored = parquet(pa.table({"n": [1]}))
    assert unpack(stored) == [{"n": 1}]
    (kept,) = columnar_process._idle
    with pytest.raises(FileCorrupt, match="Parquet data is corrupt"):
        unpack(stored[:-6])
    assert columnar_process._idle == [kept]
    reading = decompress([stored], key="key", size_bytes=len(stored), limits=ReadLimits())
    assert next(reading) == b'{"n":1}\n'
    assert columnar_process._idle == []
    assert unpack(stored) == [{"n": 1}]
    reading.close()  # type: ignore[attr-defined]
    assert kept not in columnar_process._idle
    (other,) = columnar_process._idle
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 1)
        forked = columnar_process._take()
    assert forked is not other
    forked.end()
    assert os.waitpid(other._process.pid, 0)[1] == 0


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_reader_that_crashes_is_an_error_of_the_file(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in a library ends that process, not the run, and the reason names the signal."""
    stored = parquet(pa.table({"s": ["x" * 2 * MIB] * 3}))
    started: list[Any] = []

    class Crashing(columnar_process._Worker):
        def ask(self, **request: Any) -> None:
            started.append(self)
            if when == "before":
                os.kill(self._process.pid, signal.SIGSEGV)
                self._process.wait()
            super().ask(**request)

        def pieces(self, size_bytes: int) -> Any:
            os.kill(self._process.pid, signal.SIGSEGV)
            return super().pieces(size_bytes)

    monkeypatch.setattr(columnar_process, "_Worker", Crashing)
    monkeypatch.setattr(columnar_process, "_idle", [])
    with pytest.raises(FileCorrupt, match="SIGSEGV"):
        unpack(stored)
    assert len(started) == (3 if when == "before" else 1)
