"""The command line on a separate project: in this process, and as the real console script."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from export_pipeline.cli.app import app
from export_pipeline_tests.integration.conftest import one_event_log, project, received
from export_pipeline_tests.integration.project import Project

__all__ = ["one_event_log", "project", "received"]

SCRIPT = Path(sys.executable).with_name("export-pipeline")


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What ``--json`` printed."""
        return json.loads(self.out)


class CommandLine:
    """``export-pipeline`` with the project's deployment."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = project
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str) -> Done:
        """Call it in this process."""
        for name, value in self.project.environment().items():
            self._monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)

    def script(self, *arguments: str, **environment: str) -> Done:
        """Call the real console script in the project's folder."""
        done = subprocess.run(
            [SCRIPT, *arguments],
            cwd=self.project.root,
            env=self.project.environment(**environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(project: Project, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line, with the project's deployment."""
    return CommandLine(project, monkeypatch)


def in_terminal(arguments: list[str], *, columns: int, typed: bytes = b"", cwd: Path, env: dict[str, str]) -> Done:
    """Call the console script in a terminal with this many columns; ``out`` is everything the terminal was sent."""
    import pty
    import struct
    from fcntl import ioctl
    from termios import TIOCSWINSZ

    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [SCRIPT, *arguments], cwd=cwd, env={**environment, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, typed)
    printed = bytearray()
    while True:
        try:
            some = os.read(ours, 65_536)
        except OSError:  # Linux's way to say that the other end was closed
            break
        if not some:
            break
        printed += some
    os.close(ours)
    return Done(process.wait(timeout=60), printed.decode(), "")
