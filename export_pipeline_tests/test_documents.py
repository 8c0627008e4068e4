"""README and docs: what they show works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export_pipeline.deployment import load_deployment
from export_pipeline.sample_bucket import make_sample_bucket

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language; indented ones, as in lists, too."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def all_blocks(language: str) -> list[tuple[str, str]]:
    """Page name and text of every block in one language, of all pages."""
    return [(page.name, text) for page in PAGES for text in blocks(page, language)]


def dagster_commands() -> list[str]:
    """Every command of Dagster's that README shows, but those that stay until they are stopped."""
    lines = [line for text in blocks(ROOT / "README.md", "sh") for line in text.splitlines()]
    commands = [line.partition("  #")[0].strip() for line in lines if line.startswith("dagster ")]
    return [command for command in commands if command != "dagster dev"]


def deployments() -> list[tuple[str, str]]:
    """Every YAML block that is a whole deployment."""
    return [(name, text) for name, text in all_blocks("yaml") if "source:" in text and "url:" in text]


def test_the_pages_show_deployments_and_commands() -> None:
    """The tests below have something to look at."""
    assert {name for name, _ in deployments()} >= {"README.md", "altis.md"}
    assert len(dagster_commands()) >= 4


@pytest.mark.parametrize(("page", "text"), deployments())
def test_every_deployment_shown_is_valid(page: str, text: str, tmp_path: Path) -> None:
    """Each deployment in README and docs loads, given the variables that it names."""
    path = tmp_path / "shown.yaml"
    path.write_text(text, encoding="utf-8")
    environ = dict.fromkeys(re.findall(r"\{env: (\w+)\}", text), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    environ |= {"LEDGER_URL": "postgresql://export:password@db.example.com/export"}
    environ |= dict.fromkeys(("ON_CALL_URL", "TEAM_URL"), "json://alerts.example.com/token")
    assert load_deployment(str(path), environ).subscribers


@pytest.mark.parametrize("path", sorted((ROOT / "deployments").glob("*.yaml")), ids=lambda path: path.name)
def test_every_deployment_shipped_is_valid(path: Path) -> None:
    """Each file under deployments/ loads, given the variables that it names."""
    environ = {"CRM_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "LEDGER_URL": "postgresql://a:b@c/d"}
    assert load_deployment(str(path), environ).subscribers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_shown_exists(page: Path) -> None:
    """`make something` on a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to a file of this repository names one that is there."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(("page", "text"), all_blocks("python"))
def test_every_python_block_compiles(page: str, text: str) -> None:
    """Python on a page is Python."""
    compile(text, page, "exec")


def test_readmes_dagster_commands_run(tmp_path: Path) -> None:
    """Each of Dagster's commands in README ends well, in a folder with our settings and the local deployment."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    make_sample_bucket(tmp_path / ".demo" / "bucket", events=30, files=6)
    environ = {name: value for name, value in os.environ.items() if name != "EXPORT_DEPLOYMENT"}
    environ |= {"DAGSTER_HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in dagster_commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
