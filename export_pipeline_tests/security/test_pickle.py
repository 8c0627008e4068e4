"""Nothing is unpickled: no step writes what another would read back, and no module of ours could read it."""

import ast
import pickletools
from pathlib import Path

import pytest
from dagster import DagsterInstance, FilesystemIOManager, job, op

import export_pipeline
from export_pipeline_tests.integration.project import Project

PACKAGE = Path(export_pipeline.__file__).parent
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN = UNPICKLING | {"eval", "exec"}


def pickles(root: Path) -> list[str]:
    """Every file below a folder that is a pickle from its first byte to its last."""
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and _is_pickle(path)]


def _is_pickle(path: Path) -> bool:
    data = path.read_bytes()
    try:
        operations = list(pickletools.genops(data))
    except (ValueError, IndexError, UnicodeDecodeError, AttributeError):
        return False
    # Of a text such as ".", which is a pickle of nothing, no harm can come.
    return len(operations) > 1 and (operations[-1][2] or 0) + 1 == len(data)


@op
def makes() -> dict[str, int]:
    return {"a": 1}


@op
def takes(made: dict[str, int]) -> None:
    assert made


@job(resource_defs={"io_manager": FilesystemIOManager()})
def ordinary() -> None:
    takes(makes())


def test_a_pickle_would_be_found(project: Project) -> None:
    """Dagster's own way to hand on a value leaves pickles in its folder, and the search below finds them."""
    with DagsterInstance.from_config(str(project.home)) as instance:
        assert ordinary.execute_in_process(instance=instance).success
    assert [Path(found).name for found in pickles(project.root)] == ["result"]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["export_job", "backfill_job", "check_job"])
def test_no_job_leaves_a_pickle(project: Project, name: str) -> None:
    """A run of any job, in a separate process as in production, passes on nothing that is pickled.

    Each time, the tests of the command line look at a run of export_job.
    """
    project.put_days("23")
    if name != "export_job":
        assert project.run().success
    tags = ["--tags", '{"dagster/partition": "2026-11-23"}'] if name == "backfill_job" else []
    # execute_in_process, which project.run calls, keeps values in memory whatever the job says.
    code, printed = project.command("job", "execute", "-m", "export_pipeline.definitions", "-j", name, *tags)
    assert code == 0, printed
    assert pickles(project.root) == []


def test_no_module_of_ours_can_unpickle() -> None:
    """No module imports what unpickles, and none runs text as code."""
    found: list[str] = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names += [node.func.id] if node.func.id in ("eval", "exec") else []
            found += [f"{path.name}: {name}" for name in names if name.partition(".")[0] in FORBIDDEN]
    # It compiles a mapping to a function whose text has nothing of the mapping but names, as literals by repr.
    assert found == ["mapping_compiler.py: exec"]
