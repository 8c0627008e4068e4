"""Measures the cost of a command from outside: ``python measure.py RESULT FOLDER COMMAND...``.

Runs in a small separate process, which adopts orphans of the command: so grandchildren count too, including those
that no process waited for.
"""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
_SAMPLE_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
_SHOWN_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one run of a command.

    Attributes:
        wall_seconds: from its start to its end, in wall-clock time.
        cpu_seconds: of all its processes, user and kernel.
        peak_bytes: most resident memory of all its processes at one moment, with shared memory counted once. Never less
            than the 12 MB of the measuring process, which the kernel counts for any program started from it.
        foreign_cores: how many cores, on average, other processes kept busy (neither the command nor the server).
        exit_code: 0 on success.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    foreign_cores: float
    exit_code: int


class CommandFailed(Exception):
    """A measured command failed; the message is the end of its output."""


def measured(
    command: Sequence[str],
    *,
    log: Path,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    server_pid: int | None = None,
    timeout_seconds: float = 1_800,
) -> Cost:
    """Run *command* to its end, with its output going to *log*, and return its cost.

    Args:
        server_pid: a process whose CPU time belongs neither to the command nor to others.

    Raises:
        CommandFailed: its exit code was not 0, or it timed out.
    """
    result = log.with_suffix(".cost")
    result.unlink(missing_ok=True)
    meter = [sys.executable, __file__, str(result.absolute()), str((folder or Path.cwd()).absolute()), *command]
    # Flush what the last command wrote, so that writing it to disk does not slow down this one.
    os.sync()
    began, busy, served = time.perf_counter(), _busy_seconds(), _cpu_seconds(server_pid)
    with log.open("wb") as printed:
        process = subprocess.Popen(
            meter,
            env=environ,
            stdout=printed,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout_seconds)
        except BaseException as error:
            os.killpg(process.pid, 9)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CommandFailed(f"it was stopped after {timeout_seconds:.0f} s") from None
            raise
    window, busy, served = time.perf_counter() - began, _busy_seconds() - busy, _cpu_seconds(server_pid) - served
    if not result.exists():
        raise CommandFailed(_tail(log))
    found = json.loads(result.read_text())
    if found["exit_code"] != 0:
        raise CommandFailed(f"exit code {found['exit_code']}: {_tail(log)}")
    others = busy - served - found["cpu_seconds"] - found.pop("meter_cpu_seconds")
    return Cost(**found, foreign_cores=max(0.0, others) / window)


def _tail(log: Path) -> str:
    return log.read_bytes()[-_SHOWN_BYTES:].decode(errors="replace").strip()


def _busy_seconds() -> float:
    """CPU time that the machine has spent on anything, except idle and I/O wait."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = fields
    return (user + nice + system + interrupts + soft + stolen) / _TICKS


def _cpu_seconds(pid: int | None) -> float:
    """CPU time of one process so far."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class _MemoryWatch(threading.Thread):
    """Adds up the memory of all descendants repeatedly.

    The kernel reports a single process exactly; this is for several at the same time. Memory that they share, such as
    that of a process and its fresh fork, counts once.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            pids = _descendants(os.getpid())
            if len(pids) > 1:
                self.peak_bytes = max(self.peak_bytes, sum(map(_proportional_bytes, pids)))

    def stop(self) -> int:
        """The most observed."""
        self._ended.set()
        self.join()
        return self.peak_bytes


def _descendants(pid: int) -> list[int]:
    found = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
            texts = [Path(f"/proc/{parent}/task/{task}/children").read_text() for task in tasks]
        except (FileNotFoundError, ProcessLookupError):
            continue
        children = [int(child) for text in texts for child in text.split()]
        found += children
        waiting += children
    return found


def _proportional_bytes(pid: int) -> int:
    """Resident memory of a process; of a page that several processes share, its part."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.partition("\nPss:")[2].split()[0]) * 1024 if text else 0


def _run(command: Sequence[str]) -> dict[str, float]:
    ctypes.CDLL(None, use_errno=True).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    watch = _MemoryWatch()
    watch.start()
    began = time.perf_counter()
    first = os.posix_spawnp(command[0], list(command), os.environ)
    cpu, largest, code = 0.0, 0, 0
    ended = began
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        if pid == first:
            ended = time.perf_counter()
            code = os.waitstatus_to_exitcode(status)
        cpu += usage.ru_utime + usage.ru_stime
        largest = max(largest, usage.ru_maxrss * 1024)
    own = os.times()
    return asdict(Cost(ended - began, cpu, max(largest, watch.stop()), 0.0, code)) | {
        "meter_cpu_seconds": own.user + own.system
    }


def main() -> None:
    """Run the command named on the command line; write its cost as JSON."""
    result, folder, *command = sys.argv[1:]
    os.chdir(folder)
    found = _run(command)
    del found["foreign_cores"]
    Path(result).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
