"""docs/command_line.md: every command on it works, and every command and option is on it."""

import os
import re
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export_pipeline.cli import reasons
from export_pipeline.cli.app import app
from export_pipeline.ledger import deliveries
from export_pipeline.sample_bucket import make_sample_bucket
from export_pipeline_tests.cli.conftest import SCRIPT
from export_pipeline_tests.documents import blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")


def commands(page: str) -> list[str]:
    """Every command line of ours on a page, in order, without its comment."""
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("export-pipeline ")]


def helps(*path: str) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def names(text: str) -> list[str]:
    """The commands that a help lists."""
    return re.findall(r"^  ([a-z]+)  ", text.partition("Commands:")[2], re.MULTILINE)


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_every_command_shown_works(tmp_path: Path) -> None:
    """Each command on the page, then those of README and all other pages, end well with a sample bucket of the days."""
    until = datetime(2026, 11, 3, 18, tzinfo=timezone.utc)
    make_sample_bucket(tmp_path / ".demo" / "bucket", events=60, files=12, until=until)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    (tmp_path / "deployments").mkdir()
    shutil.copy(ROOT / "deployments" / "local.yaml", tmp_path / "deployments")
    environ = {name: value for name, value in os.environ.items() if name not in ("EXPORT_DEPLOYMENT", "DAGSTER_HOME")}
    environ["PATH"] = f"{SCRIPT.parent}:{environ['PATH']}"
    shown = list(dict.fromkeys([*commands(PAGE), *blocks.commands("export-pipeline")]))
    assert len(shown) > 20
    # These need a ledger of old days, and one that was lost: test_ledger.py has such.
    elsewhere = {"export-pipeline ledger fold", "export-pipeline ledger rebuild --from 2026-11-20"}
    # These stay until they are stopped: cli/test_dev.py and integration/test_follow.py.
    stay = ("export-pipeline dev", "export-pipeline follow")
    elsewhere |= {command for command in shown if command.startswith(stay)}
    # These name what a recipe configures: test_recipes.py.
    elsewhere |= {command for command in shown if command.endswith("--subscriber lake")}
    assert elsewhere < set(shown)
    for command in (one for one in shown if one not in elsewhere):
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        # The page begins before the first run.
        is_told = "there is no such file" in done.stdout or "there is no ledger to compare" in done.stdout
        assert done.returncode == is_told, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
    assert (tmp_path / "day.csv").read_text().startswith("event_type,")
    assert (tmp_path / "day.parquet").read_bytes()[:4] == b"PAR1"
    assert (tmp_path / "deployments" / "web.yaml").exists()


def test_every_command_is_on_the_page() -> None:
    """Each command has its own section, or is in that of its group; each is shown with an example."""
    sections = re.findall(r"^## ([a-z]+)", PAGE, re.MULTILINE)
    assert sorted(names(helps())) == sorted(sections)
    for name in names(helps("quarantine")):
        assert f"`{name}" in PAGE


@pytest.mark.parametrize("option", ["--deployment", "--json", "--traceback", "--install-completion"])
def test_common_options_are_on_the_page(option: str) -> None:
    """What all commands have in common is described once."""
    assert option in PAGE


def test_every_exit_code_is_on_the_page() -> None:
    """The exit codes in the code are those of the table."""
    from export_pipeline.cli import session

    listed = {int(code) for code in re.findall(r"^ *\| (\d+) \|", PAGE, re.MULTILINE)}
    assert listed == {0, session.FAILED, session.WRONG_USAGE, session.INTERRUPTED, session.PIPE_CLOSED}


def test_every_reason_is_on_the_page() -> None:
    """Each code that `why` gives in JSON is in the table."""
    source = (ROOT / "export_pipeline" / "cli" / "reasons.py").read_text(encoding="utf-8")
    codes = set(re.findall(r"Reason\(\s*\"([a-z_]+)\"", source))
    # To whom a file goes in parts stands in the reasons as each part does.
    assert reasons.OF_STATES.keys() == deliveries.STATES.keys() - {deliveries.SPLIT}
    codes |= reasons.OF_STATES.keys()
    table = PAGE[PAGE.index("| `code` in `--json` |") : PAGE.index("Runs are named as")]
    listed = {
        code
        for row in table.splitlines()[2:]
        for code in re.findall(r"`([a-z_]+)`", row.split("|")[1:2][0] if row else "")
    }
    assert codes == listed
