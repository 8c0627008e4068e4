"""What a process tree costs."""

import sys
from pathlib import Path

import pytest

from benchmarks.measure import CommandFailed, Cost, measured
from benchmarks.rounds import figures, undisturbed

BURN = "import time\nwhile time.process_time() < 0.2: pass"
HOLD = "data = bytearray(60_000_000); import time; time.sleep(0.5)"


def test_children_of_children_count(tmp_path: Path) -> None:
    """CPU and memory of a grandchild count, even where its parent has ended without waiting for it."""
    shell = f'"{sys.executable}" -c "{BURN}" & "{sys.executable}" -c "{HOLD}" & exit 0'
    cost = measured(["bash", "-c", shell], log=tmp_path / "log")
    assert cost.cpu_seconds >= 0.2
    assert cost.peak_bytes >= 60_000_000


def test_the_memory_of_two_at_once_is_added_up(tmp_path: Path) -> None:
    """Two processes of a pipeline that hold memory at the same moment count together."""
    shell = f'"{sys.executable}" -c "{HOLD}" | "{sys.executable}" -c "{HOLD}"'
    assert measured(["bash", "-c", shell], log=tmp_path / "log").peak_bytes >= 120_000_000


def test_what_a_process_shares_with_its_fork_counts_once(tmp_path: Path) -> None:
    """A process that forks does not seem to hold twice what it holds."""
    fork = "import os, time; held = bytearray(60_000_000); pid = os.fork(); time.sleep(0.3); pid and os.wait()"
    cost = measured([sys.executable, "-c", fork], log=tmp_path / "log")
    assert 60_000_000 <= cost.peak_bytes < 100_000_000


def test_a_failure_tells_what_was_printed(tmp_path: Path) -> None:
    """A command that ends with an error, or not in time, raises, with its last words."""
    with pytest.raises(CommandFailed, match="exit code 3: no such bucket"):
        measured(["bash", "-c", "echo no such bucket; exit 3"], log=tmp_path / "log")
    with pytest.raises(CommandFailed, match="stopped after 1 s"):
        measured(["sleep", "60"], log=tmp_path / "log", timeout_seconds=1)


def cost(wall: float, foreign: float) -> Cost:
    """A cost."""
    return Cost(wall, wall / 2, int(wall * 10), foreign, 0)


def test_a_disturbed_run_is_made_again() -> None:
    """Where others kept the machine busy, the run is repeated, and the least disturbed one counts."""
    runs = iter([cost(3, 0.9), cost(2, 0.05), cost(1, 0.0)])
    assert undisturbed(lambda: next(runs)).wall_seconds == 2
    runs = iter([cost(3, 0.9), cost(2, 0.5), cost(4, 0.7)])
    assert undisturbed(lambda: next(runs), tries=3).wall_seconds == 2


def test_figures_are_medians() -> None:
    """Each figure is a separate median; of other processes' CPU the maximum is kept."""
    found = figures([cost(3, 0.1), cost(1, 0.0), cost(2, 0.2)])
    assert (found.runs, found.wall_seconds, found.cpu_seconds, found.peak_bytes) == (3, 2, 1, 20)
    assert (found.wall_least, found.wall_most, found.foreign_cores) == (1, 3, 0.2)
