"""The seams: that none is missing, and that a death at one of them is what a real SIGKILL leaves."""

import os
import pickle
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from export_pipeline_tests.servers.programs import python_path
from export_pipeline_tests.simulation.canonical import ledger_rows
from export_pipeline_tests.simulation.crashes import deaths_of
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.scenarios import SCENARIOS
from export_pipeline_tests.simulation.seams import Seam, simulation, watching
from export_pipeline_tests.simulation.story import Scenario
from export_pipeline_tests.simulation.world import Saved, World

VARIED = (
    "bad lines beside a corrupt file",
    "refused by halving, mended, retried",
    "folded, a file vanished, a newcomer",
    "the ledger lost and rebuilt",
    "the first run of all",
)


def effects(world: World, before: Saved, after: Saved, rows: tuple[object, object]) -> int:
    """How many things changed from one state to the next: files and folders, the ledger, what subscribers have."""
    old, new = (
        {path: file.data for path, file in one.files.items() if "/ledger.db" not in path} for one in (before, after)
    )
    gone, come = old.keys() - new.keys(), new.keys() - old.keys()
    changed = sum(1 for path in old.keys() & new.keys() if old[path] != new[path])
    outside = [pickle.loads(one.outside) for one in (before, after)]
    taken = outside[0].received != outside[1].received
    moved = outside[0].cursor != outside[1].cursor
    # A rename takes one name away and gives another, in one step.
    return int(max(len(gone), len(come)) + changed + (rows[0] != rows[1]) + taken + moved)


@pytest.mark.parametrize("name", VARIED)
def test_at_most_one_effect_lies_between_two_seams(empty: Stage, name: str) -> None:
    """Whatever a process changes, one may stop it before and after each single change."""
    world = empty.world
    world.restore(empty.begin)
    for step in SCENARIOS[name].steps:
        states: list[tuple[str, Saved, object]] = []

        def look(seam: Seam, states: list[tuple[str, Saved, object]] = states) -> None:
            states.append((str(seam), world.save(), list(ledger_rows(world.root / "ledger.db"))))

        with watching(str(world.root), look):
            step.act(world)
        for (seam, before, old), (_, after, new) in pairwise(states):
            assert effects(world, before, after, (old, new)) <= 1, f"{step.name}: behind {seam}"


# At night at further seams.
@pytest.mark.parametrize("share", [0, *(pytest.param(share, marks=pytest.mark.thorough) for share in (1, 2, 3))])
def test_a_death_is_what_sigkill_leaves(empty: Stage, tmp_path: Path, share: int) -> None:
    """A process that is killed by the system at a seam leaves the state that the simulation goes on from."""
    world, name = empty.world, VARIED[0]
    steps = SCENARIOS[name].steps
    at = next(number for number, step in enumerate(steps) if step.is_command)
    world.restore(empty.begin)
    for step in steps[:at]:
        step.act(world)
    begin = world.save()
    found = list(deaths_of(world, steps[at], at + 1))
    death, left = found[len(found) * (2 * share + 1) // 8]
    (tmp_path / "begin").write_bytes(pickle.dumps(begin))
    world.restore(begin)
    arguments = [str(world.root), str(tmp_path), name, str(at), str(death.seam)]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    died = subprocess.run([sys.executable, "-m", __name__, *arguments], check=False, timeout=120, env=environment)
    assert died.returncode == -signal.SIGKILL
    world.outside = pickle.loads((tmp_path / "outside").read_bytes())
    assert world.save().digest == left.digest


def main(root: str, folder: str, name: str, at: str, seam: str) -> None:
    """Do one step of a scenario, and be killed by the system at a seam."""
    scenario: Scenario = SCENARIOS[name]
    passed = 0

    def die(_: Seam) -> None:
        nonlocal passed
        passed += 1
        if passed == int(seam):
            (Path(folder) / "outside").write_bytes(pickle.dumps(world.outside))
            os.kill(os.getpid(), signal.SIGKILL)

    with simulation():
        world = World(Path(root))
        world.restore(pickle.loads((Path(folder) / "begin").read_bytes()))
        with world.workspace():
            pass  # the simulation's own process has a ledger open already, and passes no seams to see its schema
        with watching(root, die):
            scenario.steps[int(at)].act(world)


if __name__ == "__main__":
    main(*sys.argv[1:])
