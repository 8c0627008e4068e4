"""Describes the machine that was measured on, without naming it, and prepares it."""

import mmap
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def description() -> str:
    """Cores, processor, memory, kernel and Python."""
    memory_kib = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0])
    models = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    return (
        f"{os.cpu_count()} cores ({models[0] if models else platform.machine()}), {memory_kib / 1024**2:.0f} GiB of "
        f"memory, Linux {kernel}, Python {platform.python_version()}"
    )


def first_line(*command: str) -> str:
    """The first line that a program prints, such as its version; empty if it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout.splitlines() or [""])[0]


WARM_BYTES = 3 * 1024**3
"""Most memory and page cache that a run needs, except for the largest."""

_KEPT_PAGES = 1
_FREED_PAGES = 63


@contextmanager
def warm_memory(size_bytes: int = WARM_BYTES) -> Iterator[None]:
    """Have *size_bytes* of free memory that is really available, until the block exits.

    A virtual machine that returns free memory to its host gets it back when it is next accessed. That costs 2 ms per
    MiB, ten times as much as writing it, and varies within seconds: without this, it would dominate the measurement. It
    returns free stretches of 2 MiB or more; so all memory is written here, then freed except for one page in 64.
    """
    if size_bytes <= 0:
        yield
        return
    kept, freed = _KEPT_PAGES * mmap.PAGESIZE, _FREED_PAGES * mmap.PAGESIZE
    with mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory[:: mmap.PAGESIZE] = bytes(len(range(0, size_bytes, mmap.PAGESIZE)))
        for start in range(kept, size_bytes - freed + 1, kept + freed):
            memory.madvise(mmap.MADV_DONTNEED, start, freed)
        yield
