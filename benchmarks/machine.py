"""What the figures were measured on, without naming any machine, and how to make it ready."""

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
    """What a program says first, such as its version; empty where it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout.splitlines() or [""])[0]


WARM_BYTES = 3 * 1024**3
"""What a run needs of memory and page cache, at most, but for the largest."""

_KEPT_PAGES = 1
_FREED_PAGES = 63


@contextmanager
def warm_memory(size_bytes: int = WARM_BYTES) -> Iterator[None]:
    """Have so much free memory that the machine really has, until the block is left.

    A virtual machine that gives its free memory back is handed it anew when it is touched next. That costs 2 ms for
    each MiB, ten times as much as writing it, and comes and goes within seconds: without this, it would be most of
    what is measured. It gives back what is free in stretches of 2 MiB or more; so here all is touched, then freed but
    for one page in 64.
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
