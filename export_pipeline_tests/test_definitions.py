"""What Dagster loads, in a process of its own."""

import subprocess
import sys
from pathlib import Path

LOOKED_THROUGH = """
import gc
from export_pipeline.definitions import defs

print(any(one is defs for one in gc.get_objects()))
"""

BEFORE_ANYTHING_OF_OURS = """
import gc
try:
    import export_pipeline.definitions
except Exception:
    print(gc.get_freeze_count() > 10_000)
"""


def run(program: str, folder: Path, deployment: str) -> str:
    """What *program* prints, run in *folder* with that deployment."""
    environment = {"EXPORT_DEPLOYMENT": deployment, "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_definitions_are_not_looked_through_for_garbage(tmp_path: Path) -> None:
    """What was made by loading the definitions is left out of every later collection of garbage."""
    (tmp_path / "some.yaml").write_text("source: {url: bucket}")
    assert run(LOOKED_THROUGH, tmp_path, "some.yaml") == "False"


def test_dagster_is_not_looked_through_while_the_definitions_load(tmp_path: Path) -> None:
    """What importing Dagster made is left out of collections before the deployment is read."""
    assert run(BEFORE_ANYTHING_OF_OURS, tmp_path, "/no/such/deployment.yaml") == "True"
