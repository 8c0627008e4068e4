"""What is installed, and what is released: named, hashed, pinned, and looked at each night."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from export_pipeline_tests.documents.blocks import ROOT
from export_pipeline_tests.test_project_files import PYPROJECT, _names

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def entries(text: str) -> dict[str, set[str]]:
    """Name → the versions that a lock names, by marker."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\\n]+)", text, re.MULTILINE):
        (normalised,) = _names([name])
        found.setdefault(normalised, set()).add(version)
    return found


def test_the_lock_has_every_dependency_by_hash() -> None:
    """requirements.lock holds what a deployment needs, setuptools to build it included, each file by its SHA-256, in
    the versions that the tests run with.
    """
    wanted = [*PYPROJECT["project"]["dependencies"]]
    for extra in ("postgres", "celery", "docker", "k8s"):
        wanted += PYPROJECT["project"]["optional-dependencies"][extra]
    wanted += PYPROJECT["build-system"]["requires"]
    locked = entries(LOCK)
    assert _names(wanted) - locked.keys() == set()
    logical = [line for line in LOCK.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert [line for line in logical if not re.search(r"--hash=sha256:[0-9a-f]{64}( |$)", line)] == []
    assert "://" not in LOCK.replace("--hash", "")
    tested = entries((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert {name: found for name, found in locked.items() if name in tested and found != tested[name]} == {}


def test_the_lock_is_made_with_what_builds_the_package() -> None:
    """`make lock` adds exactly the build's own requirements, as pyproject.toml has them."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"^BUILD_BACKEND := (.*)$", makefile, re.MULTILINE) == PYPROJECT["build-system"]["requires"]


@pytest.mark.thorough
def test_pip_refuses_a_file_of_another_hash(tmp_path: Path) -> None:
    """A package whose bytes are others than those that were locked is not installed."""
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "made"\nbackend-path = ["."]\n'
        '[project]\nname = "made"\nversion = "1"\n'
    )
    wheel = tmp_path / "made-1-py3-none-any.whl"
    script = (
        "import sys, zipfile\n"
        "with zipfile.ZipFile(sys.argv[1], 'w') as made:\n"
        "    made.writestr('made.py', '')\n"
        "    made.writestr('made-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: made\\nVersion: 1\\n')\n"
        "    made.writestr('made-1.dist-info/WHEEL', 'Wheel-Version: 1.0\\nTag: py3-none-any\\n')\n"
        "    made.writestr('made-1.dist-info/RECORD', '')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(wheel)], check=True)
    right, wrong = hashlib.sha256(wheel.read_bytes()).hexdigest(), "0" * 64
    for digest, code in ((right, 0), (wrong, 1)):
        lock = tmp_path / "made.lock"
        lock.write_text(f"made==1 --hash=sha256:{digest}\n")
        command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-index", "--no-deps"]
        command += ["--find-links", str(tmp_path), "--target", str(tmp_path / digest), "-r", str(lock)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert code == 0 or "DO NOT MATCH THE HASHES" in done.stderr


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(path: Path) -> None:
    """No movable tag decides what runs on GitHub; the version is in a comment, for Dependabot."""
    text = path.read_text(encoding="utf-8")
    used = [step["uses"] for step in steps(yaml.safe_load(text)) if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}", action)
        assert re.search(rf"uses: {re.escape(action)} # v\d+\.\d+\.\d+\n", text), action


def test_one_action_has_one_commit() -> None:
    """All workflows use the same version of an action."""
    used = {
        step["uses"]
        for path in WORKFLOWS
        for step in steps(yaml.safe_load(path.read_text(encoding="utf-8")))
        if "uses" in step
    }
    assert len(used) == len({action.partition("@")[0] for action in used})


def test_a_release_is_built_once_signed_and_published_without_a_token() -> None:
    """Only the jobs that need it may sign, none that runs our code can; what was built is what is published."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` so
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert [step["run"] for step in jobs["build"]["steps"] if "run" in step][-1] == "make dist"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "pypi"
    assert [jobs[name].get("needs") for name in ("sign", "publish", "github-release")] == ["build", "sign", "publish"]
    actions = [step.get("uses", "").partition("@")[0] for step in jobs["sign"]["steps"]]
    assert actions == ["actions/download-artifact", "actions/attest", "actions/attest"]
    assert jobs["sign"]["steps"][-1]["with"]["sbom-path"] == "dist/sbom.cdx.json"
    assert jobs["publish"]["steps"][-1]["with"] == {"packages-dir": "packages/", "attestations": True}
    assert "secrets." not in json.dumps(workflow)
    for name in ("sign", "publish", "github-release"):
        assert not [step for step in jobs[name]["steps"] if "checkout" in step.get("uses", "")]


def test_a_tag_that_is_not_the_version_is_refused(tmp_path: Path) -> None:
    """The release stops where the tag and pyproject.toml say different versions."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    (check,) = (
        step["run"] for step in workflow["jobs"]["build"]["steps"] if step.get("name", "").startswith("The tag")
    )
    version = PYPROJECT["project"]["version"]
    for tag, code in ((f"v{version}", 0), (f"v{version}1", 1), (version, 1)):
        done = subprocess.run(
            ["bash", "-ec", check], cwd=ROOT, env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}, check=False
        )
        assert done.returncode == code, tag


def test_the_audit_looks_at_all_that_is_locked() -> None:
    """`make audit` asks about both files, and GitHub runs it each night only."""
    recipe = subprocess.run(["make", "--dry-run", "audit"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    audits = [line for line in recipe.splitlines() if "/pip-audit " in line]
    assert [line.rpartition(" ")[2] for line in audits] == ["requirements.lock", "constraints.txt"]
    assert all("--strict" in line for line in audits)
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())["jobs"]["audit"]
    assert job["steps"][-1]["run"].startswith("make audit")
