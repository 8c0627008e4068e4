"""A stage for the simulation: a world whose ledger has its schema, saved, with everything imported that is needed."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from export_pipeline_tests.simulation.postgres import PostgresWorld
from export_pipeline_tests.simulation.seams import simulation
from export_pipeline_tests.simulation.world import Saved, World

# Imported late by the package; what an import reads is no part of what a process does.
for _late in ("alembic.command", "filelock", "isal.igzip", "simdjson", "zstandard"):
    importlib.import_module(_late)

_IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Stage:
    """A world, and its beginning.

    Attributes:
        waits: see :class:`.schedules.Race`.
    """

    world: World
    begin: Saved
    waits: Callable[[int], bool] | None


@contextmanager
def stage(postgres_url: str = "") -> Iterator[Stage]:
    """A world in a separate folder; the package is part of a simulation until the block ends.

    Args:
        postgres_url: of an empty database, for the ledger; empty: SQLite.
    """
    parent = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="simulation-", dir=parent) as folder, simulation():
        root = Path(folder) / "world"
        world = PostgresWorld(root, postgres_url) if postgres_url else World(root)
        try:
            with world.workspace():
                pass
            waits = world.waits if isinstance(world, PostgresWorld) else None
            yield Stage(world, world.save(), waits)
        finally:
            world.close()
