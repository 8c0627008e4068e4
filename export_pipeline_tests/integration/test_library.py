"""Exports as a part of a user's Dagster project: merged into its definitions, and as components."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import AssetKey, ConfigurableResource, DagsterInstance, DagsterInvariantViolationError, Definitions, asset

from export_pipeline import Export, build_defs
from export_pipeline.errors import ConfigurationError
from export_pipeline_tests.integration.project import Project

DG = Path(sys.executable).with_name("dg")
PYPROJECT = """
[project]
name = "acme"
version = "1.0"
requires-python = ">=3.10"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "acme"
"""
DEFINITIONS = """
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


class Books(ConfigurableResource[None]):
    """A resource of the team's own, which will have the name of one of an export's."""

    path: str = "books"


@asset
def raw_events() -> None:
    """An asset of the team's own, of the same name as one of an export."""


class Exports:
    """Two deployment files, each with its own bucket and subscriber, on one ledger."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.projects: dict[str, Project] = {}
        for name in ("web", "app"):
            (root / name).mkdir()
            project = Project(root / name, ledger={"url": str(root / "ledger.db")}, staging={"url": str(root / "st")})
            self.projects[name] = project

    def path(self, name: str) -> Path:
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(self.projects[name].config))
        return path


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path)


JOBS = ("export_job", "backfill_job", "check_job", "retry_quarantine", "dismiss_quarantine")


def names(definitions: Definitions) -> dict[str, set[str]]:
    repository = definitions.get_repository_def()
    return {
        "jobs": {name for name in repository.job_names if not name.startswith("__")},
        "assets": {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()},
        "schedules": {one.name for one in repository.schedule_defs},
        "sensors": {one.name for one in repository.sensor_defs},
        "resources": set(repository.get_top_level_resources()),
    }


def test_it_is_merged_into_definitions_that_are_there(exports: Exports) -> None:
    """build_defs gives everything that a deployment file describes, and merges with a team's own definitions."""
    found = names(Definitions.merge(build_defs(exports.path("web")), Definitions(resources={"mine": Books()})))
    assert found == {
        "jobs": set(JOBS),
        "assets": {"raw_events", "quarantine", "copy"},
        "schedules": {"export_schedule", "check_schedule"},
        "sensors": {"new_files", "alerts"},
        "resources": {"source", "ledger", "staging", "quarantine", "copy", "mine"},
    }


def test_two_exports_in_one_code_location(exports: Exports) -> None:
    """With prefixes two exports, and a team's own things of the same names, coexist, and each runs."""
    own = Definitions(assets=[raw_events], resources={"ledger": Books()})
    exports.projects["app"].config["prefix"] = "app"
    both = Definitions.merge(own, build_defs(exports.path("web"), prefix="web"), build_defs(str(exports.path("app"))))
    found = names(both)
    assert found["jobs"] == {f"{name}_{job}" for name in ("web", "app") for job in JOBS}
    of_each = {f"{name}/{asset}" for name in ("web", "app") for asset in ("raw_events", "quarantine", "copy")}
    assert found["assets"] == {"raw_events", *of_each}
    assert found["sensors"] == {"web_new_files", "web_alerts", "app_new_files", "app_alerts"}
    lines = {name: one.put(f"2026/11/23/{name}.gz", [{"of": name}]) for name, one in exports.projects.items()}
    with DagsterInstance.from_config(str(exports.projects["web"].home)) as instance:
        for name in ("web", "app"):
            assert both.resolve_job_def(f"{name}_export_job").execute_in_process(instance=instance).success
            assert instance.get_materialized_partitions(AssetKey([name, "copy"])) == {"2026-11-23"}
        for name in ("web", "app"):
            result = both.resolve_job_def(f"{name}_check_job").execute_in_process(instance=instance)
            evaluations = result.get_asset_check_evaluations()
            assert {one.asset_key for one in evaluations} == {AssetKey([name, "copy"]), AssetKey([name, "raw_events"])}
            assert [one.check_name for one in evaluations if not one.passed and one.check_name != "freshness"] == []
    assert {name: one.copied() for name, one in exports.projects.items()} == lines


def test_without_a_prefix_dagster_says_that_they_collide(exports: Exports) -> None:
    """Two exports of the same names are refused by Dagster while it loads, and not mixed up."""
    with pytest.raises(DagsterInvariantViolationError, match="different resources with same key 'source'"):
        Definitions.merge(build_defs(exports.path("web")), build_defs(exports.path("app")))


@pytest.mark.parametrize("prefix", ["Web", "web-site", "1st", "w" * 31])
def test_a_prefix_that_names_cannot_begin_with(exports: Exports, prefix: str) -> None:
    """A prefix that is none is refused, given to build_defs and in the file, with what is allowed."""
    with pytest.raises(ConfigurationError, match=f"found '{prefix}'; allowed: a lower-case letter, then letters"):
        build_defs(exports.path("web"), prefix=prefix)
    exports.projects["web"].config["prefix"] = prefix
    with pytest.raises(ConfigurationError, match="allowed: a lower-case letter, then letters"):
        build_defs(exports.path("web"))


def test_importing_the_package_is_light() -> None:
    """Importing the package imports no Dagster, so that `export-pipeline status` answers at once; Export comes late."""
    code = "import sys, export_pipeline; assert 'dagster' not in sys.modules; assert 'Export' in dir(export_pipeline)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert Export.__module__ == "export_pipeline.orchestration.component"


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """A user's Dagster project, in the form that `dg` expects."""
    package = tmp_path / "project" / "src" / "acme"
    (package / "defs").mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text(PYPROJECT)
    (package / "definitions.py").write_text(DEFINITIONS)
    for folder in (package, package / "defs"):
        (folder / "__init__.py").touch()
    return tmp_path / "project"


def dg(project: Path, *arguments: str) -> str:
    """Call `dg` in *project*; returns what it printed."""
    home = project / "home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    path = os.pathsep.join([str(project / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": path,
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [DG, *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.thorough
def test_the_component_is_listed(acme: Path) -> None:
    """`dg list components` shows export_pipeline.Export, and what it is."""
    listed = json.loads(dg(acme, "list", "components", "--json"))["items"]
    (ours,) = [one for one in listed if one["key"] == "export_pipeline.Export"]
    assert "every subscriber" in ours["summary"]


def test_two_components_in_one_project(acme: Path, exports: Exports) -> None:
    """Two defs.yaml of type export_pipeline.Export, one scaffolded and one written, give two exports, told apart."""
    dg(acme, "scaffold", "defs", "export_pipeline.Export", "web")
    written = acme / "src" / "acme" / "defs" / "web" / "defs.yaml"
    assert yaml.safe_load(written.read_text()) == {
        "type": "export_pipeline.Export",
        "attributes": {"deployment": "deployment.yaml", "prefix": "web"},
    }
    folder = acme / "src" / "acme" / "defs" / "app"
    folder.mkdir()
    exports.projects["app"].config["prefix"] = "app"
    deployment = os.path.relpath(exports.path("app"), folder)
    (folder / "defs.yaml").write_text(
        yaml.safe_dump({"type": "export_pipeline.Export", "attributes": {"deployment": deployment}})
    )
    listed: dict[str, Any] = json.loads(dg(acme, "list", "defs", "--json"))
    jobs = {one["name"] for one in listed["jobs"] if not one["name"].startswith("__")}
    assert jobs == {f"{name}_{job}" for name in ("web", "app") for job in JOBS}
    assert {one["asset_key"] for one in listed["assets"]} >= {
        "web/archive",
        "web/raw_events",
        "app/copy",
        "app/raw_events",
    }
