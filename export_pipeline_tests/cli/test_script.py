"""The real console script: what it costs to start, how it ends, and what it must never print."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from export_pipeline_tests.cli.conftest import SCRIPT, CommandLine, in_terminal
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

SLOW = {"type": "python", "function": "export_pipeline_tests.integration.receivers:slow", "retry_for_seconds": 0}
LEAKING = {"type": "python", "function": "export_pipeline_tests.integration.receivers:leaking", "retry_for_seconds": 0}
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HEAVY = ("dagster", "boto3", "dagster_aws", "alembic", "httpx2", "pyarrow")


def loaded_by(project: Project, *commands: list[str]) -> set[str]:
    """Which heavy modules, and SQLAlchemy, a process has imported when the last of its commands ends."""
    program = (
        "import sys\nfrom contextlib import suppress\nfrom export_pipeline.cli import main\n"
        f"for sys.argv[1:] in {list(commands)!r}:\n"
        "    with suppress(SystemExit):\n        main()\n"
        "print('LOADED', *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=project.environment(), capture_output=True, text=True, check=True
    )
    modules = done.stderr.partition("LOADED ")[2].split()
    return {name for name in modules if name in (*HEAVY, "sqlalchemy", "rich", "pydantic")}


def test_help_comes_at_once(project: Project) -> None:
    """Help of the command and of its parts imports neither Dagster nor anything else that takes long."""
    loaded = loaded_by(project, ["--help"], ["status", "--help"], ["quarantine", "retry", "-h"])
    assert loaded & {*HEAVY, "sqlalchemy"} == set()


def test_looking_does_not_import_dagster(project: Project) -> None:
    """`status`, `why` of a known file, `events` and `quarantine list` do without Dagster."""
    project.put_days("23")
    project.run()
    day = "2026-11-23"
    loaded = loaded_by(project, ["status"], ["why", "2026/11/23/00/000.gz"], ["events", day], ["quarantine", "list"])
    assert "sqlalchemy" in loaded
    assert loaded & set(HEAVY) == set()


def test_the_version(project: Project, cli: CommandLine) -> None:
    """`--version` tells the version of the package."""
    assert cli.script("--version").out == "export-pipeline 0.1.0\n"


def test_a_wrong_deployment_file_is_the_same_message_everywhere(project: Project, cli: CommandLine) -> None:
    """Every command reports an error in the deployment file with file, line and key, and exits with 2."""
    project.config["source"]["layuot"] = "%Y"
    for arguments in (["status"], ["run"], ["check"], ["events", "2026-11-23"]):
        done = cli(*arguments)
        assert done.code == 2
        assert re.search(r"test\.yaml:\d+: source\.layuot: unknown key \(did you mean layout\?\)", done.err)
        assert "Traceback" not in done.err


def test_which_deployment(project: Project, cli: CommandLine) -> None:
    """--deployment takes precedence over EXPORT_DEPLOYMENT; for a missing one the existing names are listed."""
    project.put_days("23")
    project.run()
    path = str(project.deployment_path)
    assert cli.script("status", "-d", path, "--json", EXPORT_DEPLOYMENT="nowhere").json()["file"] == path
    done = cli.script("status", EXPORT_DEPLOYMENT="nowhere")
    assert done.code == 2
    assert "there is no deployment 'nowhere'" in done.err


def test_a_traceback_is_asked_for(project: Project, cli: CommandLine) -> None:
    """An error is one message; --traceback shows the code that raised it."""
    project.config["source"]["url"] = str(project.root / "nowhere")
    done = cli("events", "2026-11-23")
    assert done.code == 1
    assert done.err.startswith("error: file://")
    assert len(done.err.splitlines()) == 1
    done = cli("events", "2026-11-23", "--traceback")
    assert done.code == 1
    assert "Traceback (most recent call last):" in done.err
    assert "ListingFailed" in done.err


def test_no_secret_in_any_output(project: Project, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that a careless subscriber puts into its errors appears in no output of any command."""
    secret = "planted/secret+1234567890"
    monkeypatch.setenv("PLANTED_SECRET", secret)
    project.config["subscribers"] = {
        "leak": LEAKING,
        "crm": {"type": "webhook", "url": "http://127.0.0.1:1/x", "secret_headers": {"X": {"env": "PLANTED_SECRET"}}},
    }
    project.config["subscribers"]["crm"]["retry_for_seconds"] = 0
    project.put_days("23")
    printed = []
    for arguments in (
        ["run"],
        ["run", "--traceback"],
        ["status"],
        ["status", "--json"],
        ["why", "2026/11/23/00/000.gz"],
        ["why", "2026/11/23/00/000.gz", "--json"],
        ["check", "--traceback"],
        ["replay", "2026-11-23", "--json"],
    ):
        done = cli(*arguments)
        printed += [done.out, done.err]
    assert "failed" in printed[0] + printed[1]
    spellings = (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    assert [text for text in printed for spelling in spellings if spelling in text] == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_may_stop_early(project: Project, unbuffered: str) -> None:
    """When the reader of a pipe has seen enough, the command ends without a complaint, with the shell's exit code."""
    project.put("2026/11/23/a.gz", [{"n": n, "text": "x" * 1000} for n in range(5_000)])
    done = subprocess.run(
        f"'{SCRIPT}' events 2026-11-23 | head -n 2; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=project.environment(PYTHONUNBUFFERED=unbuffered),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert [line[:9] for line in done.stdout.splitlines()] == ['{"n": 0, ', '{"n": 1, ', "141"]
    assert done.stderr == ""


def test_ctrl_c_loses_nothing(project: Project, cli: CommandLine, received: Path) -> None:
    """A run that is interrupted ends with 130; the next one delivers the rest, and no batch twice."""
    project.config["batch"] = {"max_events": 1}
    project.config["subscribers"] = {"crm": SLOW}
    lines = project.put_days("23", files=2, events=8)
    process = subprocess.Popen(
        [SCRIPT, "run"], env=project.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(receivers.calls("crm", received)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    before = len(receivers.calls("crm", received))
    assert 3 <= before < 16
    assert cli("run").code == 0
    calls = receivers.calls("crm", received)
    # The one batch in flight may have come twice, under the same id.
    assert len(calls) in (16, 17)
    assert list(dict(calls).values()) == [line.decode() + "\n" for line in lines]
    assert project.imbalances() == []


@pytest.mark.thorough
def test_a_bar_in_a_terminal_and_plain_lines_elsewhere(project: Project, cli: CommandLine, received: Path) -> None:
    """In a terminal a bar shows bytes and events below the lines; without one there is no escape sequence at all."""
    project.config["batch"] = {"max_events": 1}
    project.config["subscribers"] = {"crm": SLOW}
    project.put_days("22", files=1, events=6)
    done = in_terminal(["run"], columns=100, cwd=project.root, env=project.environment())
    assert done.code == 0
    assert re.search(r"export_job .* +\d+% \d+ bytes of \d+ bytes, \d events", ANSI.sub("", done.out))
    assert "\x1b[" in done.out
    project.put_days("23", files=1)
    for arguments in (["run"], ["status"], ["why", "2026/11/23/00/000.gz"], ["check"], ["--help"]):
        plain = cli.script(*arguments)
        assert "\x1b" not in plain.out + plain.err


@pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.thorough)])
def test_tables_fit_the_terminal(project: Project, cli: CommandLine, columns: int) -> None:
    """In a terminal no line is longer than the terminal is wide; in a pipe nothing is cut off."""
    key = f"2026/11/23/00/{'a-very-long-name-as-firehose-gives-them-' * 3}.gz"
    project.put(key, [{"a": 1}])
    project.run()
    shown = {
        name: in_terminal([name, *more], columns=columns, cwd=project.root, env=project.environment()).out
        for name, more in {"status": [], "why": [key], "check": []}.items()
    }
    for name, text in shown.items():
        assert max(map(len, ANSI.sub("", text).splitlines())) <= columns, name
    assert "…" in shown["status"]
    assert key in cli.script("status").out


def test_names_that_no_terminal_can_show(project: Project, cli: CommandLine) -> None:
    """A key that the output's encoding does not have is shown with escapes; the command does not fail."""
    project.put("2026/11/23/00/schön-日本.gz", [{"a": 1}])
    project.run()
    done = cli.script("status", PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert r"sch\xf6n-\u65e5\u672c.gz" in done.out


def test_the_same_as_a_module(project: Project) -> None:
    """`python -m export_pipeline.cli` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "export_pipeline.cli", "status"],
        env=project.environment(),
        cwd=os.fspath(project.root),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Deployment")
