"""The files at the top of the project: what Dagster and users find there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.test_utils import create_run_for_test
from dagster._utils.tags import TagConcurrencyLimitsCounter

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_dagster_keeps_everything_under_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance made from our dagster.yaml in a folder writes to .dagster/ there, and nowhere else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    home = tmp_path / "home"
    home.mkdir()
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(home), config_dir=str(tmp_path))) as instance:
        assert instance.get_runs() == []
        assert not instance.is_ephemeral
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dagster", "dagster.yaml", "home"]
    assert list(home.iterdir()) == []


def test_dagster_reports_nothing_home() -> None:
    """Dagster's telemetry is off."""
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert settings["telemetry"] == {"enabled": False}


def test_one_run_at_a_time() -> None:
    """The queue lets one run of each deployment start at a time, from the first one on, keeps those whose code server
    restarts, and forgets none that died.
    """
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    limits = settings["concurrency"]["runs"]["tag_concurrency_limits"]
    with DagsterInstance.ephemeral() as instance:
        mine, other = (
            create_run_for_test(instance, tags={"export_pipeline/ledger": name}) for name in ("mine", "other")
        )
    under_way = TagConcurrencyLimitsCounter(limits, [mine])
    assert under_way.is_blocked(mine)
    assert not under_way.is_blocked(other)
    under_way.update_counters_with_launched_item(other)
    assert under_way.is_blocked(other)
    assert settings["run_queue"] == {"max_user_code_failure_retries": 10, "user_code_failure_retry_delay": 10}
    assert settings["run_monitoring"]["enabled"] is True
    assert settings["run_monitoring"]["max_runtime_seconds"] > 0


def test_the_location_keeps_its_name() -> None:
    """The cursor and the state of schedules are kept under the location's name, which is therefore pinned."""
    (target,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert target["python_module"] == {"module_name": "export_pipeline.definitions", "location_name": "export_pipeline"}


def test_dg_loads_what_the_workspace_says() -> None:
    """[tool.dg], which Dagster's commands read in place of workspace.yaml, names the same module and location."""
    (target,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    project = PYPROJECT["tool"]["dg"]["project"]
    assert target["python_module"] == {
        "module_name": project["code_location_target_module"],
        "location_name": project["code_location_name"],
    }
    assert "dagster" not in PYPROJECT["tool"]


def test_the_license_is_whole() -> None:
    """The package declares Apache-2.0, and contains the full text."""
    text = (ROOT / "LICENSE").read_text()
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_follows_keep_a_changelog() -> None:
    """The unreleased section comes first, releases have a version and a date, changes are under known headings."""
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *releases = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert [name for name in releases if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", name)] == []
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds


def _names(requirements: list[str]) -> set[str]:
    """Normalised as PyPI does: lower case, dashes."""
    names = (re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in requirements)
    return {re.sub(r"[._-]+", "-", name).lower() for name in names}


def _declared() -> set[str]:
    project = PYPROJECT["project"]
    extras = [entry for extra in project["optional-dependencies"].values() for entry in extra]
    groups = [entry for group in PYPROJECT["dependency-groups"].values() for entry in group if isinstance(entry, str)]
    return _names([*project["dependencies"], *extras, *groups])


def test_every_dependency_has_a_reason() -> None:
    """docs/dependencies.md gives one reason for each dependency, and none for what is not one."""
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    assert [name for name, reason in rows if len(reason.strip()) < 10] == []
    assert _names([name for name, _ in rows]) == _declared()


def test_every_dependency_is_pinned_for_ci() -> None:
    """constraints.txt, which CI installs from, knows a version of every dependency; `make lock` writes it."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert _declared() - _names(lines) == set()
    assert not [line for line in lines if "://" in line or "--" in line]


def test_the_lock_has_what_the_image_promises() -> None:
    """requirements.lock, which the image is made of, has every dependency and those of the locked extras; alerts, of
    which the documentation says that they work, are among them. What was replaced is in it no more.
    """
    project = PYPROJECT["project"]
    (extras,) = re.findall(r"^LOCKED_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = [
        *project["dependencies"],
        *(one for name in extras.split() for one in project["optional-dependencies"][name]),
    ]
    locked = _names(
        [line for line in (ROOT / "requirements.lock").read_text().splitlines() if re.match(r"[a-z]", line)]
    )
    assert _names(wanted) - locked == set()
    assert "apprise" in locked
    assert locked & {"httpx", "zstandard"} == set()


def test_make_help_lists_every_target() -> None:
    """Every target for users is phony, described, and shown by plain `make`."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[0] for line in shown.splitlines()] == phony.split()


def test_make_refuses_a_python_that_is_too_old(tmp_path: Path) -> None:
    """A Python outside of 3.10 to 3.13 is refused before anything is made, with the way to name another."""
    old = tmp_path / "python2"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo "Python 2.7.18"; else exit 1; fi\n')
    old.chmod(0o755)
    command = ["make", "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert f"Python 3.10, 3.11, 3.12 or 3.13 is needed; {old} is: Python 2.7.18." in result.stdout
    assert "make demo PYTHON=python3.12" in result.stdout
    assert not (tmp_path / "venv").exists()


def test_ci_runs_what_a_person_runs() -> None:
    """GitHub calls .ci/run with each Python, which calls make check and make test where no other target is named."""
    job = _workflow("ci")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert _commands(job) == ["bash .ci/run"]
    last = (ROOT / ".ci" / "run").read_text().splitlines()[-2:]
    assert last == [
        'if [ "$#" -eq 0 ]; then set -- check test; fi',
        'for target in "$@"; do make "$target"; done',
    ]


def test_each_night_runs_what_is_too_slow_for_a_push() -> None:
    """The nightly workflow runs the slow tests with each Python, the newest Dagster without constraints.txt, the fuzzer
    and the audit; it runs on a schedule and by hand, not on a push.
    """
    workflow = _workflow("nightly")
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML 1.1 reads `on` as true
    jobs = workflow["jobs"]
    assert jobs["thorough"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert _commands(jobs["thorough"])[-1] == "bash .ci/run check test test-thorough"
    assert _commands(jobs["newest-dagster"]) == ["bash .ci/run test-newest"]
    assert _commands(jobs["fuzz"]) == ["make fuzz PYTHON=python FUZZ_SECONDS=1800"]
    assert _commands(jobs["audit"]) == ["make audit PYTHON=python"]


def test_the_newest_dagster_is_tested_without_our_pins() -> None:
    """`make test-newest` installs without constraints.txt, and runs the tests of everything that touches Dagster."""
    # What a make around these tests was given must not decide what this one is shown.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "NEWEST_"))}
    command = ["make", "--dry-run", "test-newest"]
    recipe = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout
    assert "constraints.txt" not in recipe
    assert "/newest/bin/python -m pip install" in recipe
    (tested,) = (line for line in recipe.splitlines() if " -m pytest " in line)
    paths = re.findall(r"export_pipeline_tests/\S+", tested)
    assert {"export_pipeline_tests/orchestration", "export_pipeline_tests/integration"} <= set(paths)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def _workflow(name: str) -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return workflow


def _commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step and "apt-get install" not in step["run"]]


def test_dependencies_are_kept_up_to_date() -> None:
    """Dependabot proposes new versions of actions, Python packages and the base image, each in the right file."""
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    folders = {entry["package-ecosystem"]: entry["directory"] for entry in updates}
    assert folders == {"github-actions": "/", "pip": "/", "docker": "/deployments/docker"}
    assert (ROOT / "deployments" / "docker" / "Dockerfile").exists()


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_are_as_github_wants_them(name: str) -> None:
    """A form has a name, a description and fields of known kinds with distinct ids; something in it is required."""
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert set(form) <= {"name", "description", "title", "labels", "assignees", "projects", "type", "body"}
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    identifiers = [field["id"] for field in fields]
    assert len(set(identifiers)) == len(identifiers)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_issues_lead_to_the_private_form_for_vulnerabilities() -> None:
    """No blank issue can be opened, and the first thing offered is the private report."""
    chooser = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml").read_text())
    assert chooser["blank_issues_enabled"] is False
    assert chooser["contact_links"][0]["url"].endswith("/security/advisories/new")
    assert all(set(link) == {"name", "url", "about"} for link in chooser["contact_links"])


def test_pre_commit_runs_the_tools_of_make_check() -> None:
    """Every hook runs a tool of `make check` from .venv, so in the version of constraints.txt."""
    checked = subprocess.run(
        ["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    tools = [re.sub(r" --(fix|force-exclude|check)", "", hook["entry"]) for hook in repository["hooks"]]
    assert len(tools) == 5
    assert [tool for tool in tools if tool not in checked.replace("ruff check .", "ruff check")] == []


def test_code_owners_own_what_there_is() -> None:
    """Every path in CODEOWNERS exists, everything has an owner, and owners are written as GitHub reads them."""
    lines = (ROOT / ".github" / "CODEOWNERS").read_text().splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert rules[0][0] == "*"
    assert [path for path, *_ in rules[1:] if not (ROOT / path.lstrip("/")).exists()] == []
    assert all(owners and all(owner.startswith("@") for owner in owners) for _, *owners in rules)


def test_the_code_of_conduct_is_whole() -> None:
    """It is the Contributor Covenant 2.1 with all its parts, and its contact is filled in."""
    text = (ROOT / "CODE_OF_CONDUCT.md").read_text()
    assert re.findall(r"^##+ (.*)$", text, re.MULTILINE) == [
        "Our Pledge",
        "Our Standards",
        "Enforcement Responsibilities",
        "Scope",
        "Enforcement",
        "Enforcement Guidelines",
        "1. Correction",
        "2. Warning",
        "3. Temporary Ban",
        "4. Permanent Ban",
        "Attribution",
    ]
    assert "version 2.1" in text
    assert "[INSERT" not in text


def test_the_local_deployment_has_a_source_in_a_fresh_clone() -> None:
    """A run of the local deployment right after cloning finds an empty folder, not an error."""
    tracked = subprocess.run(["git", "ls-files", ".demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert tracked.split() == [".demo/bucket/.gitkeep"]
