"""What the figures were measured on, without naming any machine, and how to make it ready."""

import mmap
import os
import platform
import re
import subprocess
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


TOUCHED_BYTES = 2 * 1024**3
"""What a run needs of memory and page cache, at most, but for the largest."""


def touch_free_memory(size_bytes: int = TOUCHED_BYTES) -> None:
    """Write to so much free memory once, right before a run.

    A virtual machine that gives its free memory back is handed it anew when it first touches it. That costs 2 ms for
    each MiB, ten times as much as writing it, and comes and goes within seconds: without this, it would be most of
    what is measured.
    """
    if size_bytes <= 0:
        return
    with mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:: mmap.PAGESIZE] = bytes(len(range(0, size_bytes, mmap.PAGESIZE)))
