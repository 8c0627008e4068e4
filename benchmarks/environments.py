"""A separate environment for each peer, under ``.bench/``."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


class NotInstalled(Exception):
    """A peer could not be installed; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment and what is in it.

    versions: of everything installed, by lower-case name.
        folder: where it is.
        versions: of everything installed, by lower-case name.
    """

    folder: Path
    versions: dict[str, str]

    @property
    def python(self) -> str:
        """Path of its interpreter."""
        return self.program("python")

    def program(self, name: str) -> str:
        """Path of a program installed in it."""
        return str(self.folder / "bin" / name)


def environment(folder: Path, requirements: tuple[str, ...]) -> Environment:
    """The environment in *folder*, created if it is missing or has other requirements.

    Raises:
        NotInstalled: pip failed.
    """
    stamp = folder / "installed.json"
    wanted = list(requirements)
    if stamp.exists() and (known := json.loads(stamp.read_text()))["requirements"] == wanted:
        return Environment(folder.absolute(), known["versions"])
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    python = str(folder / "bin" / "python")
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
    found = json.loads(_run([python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]))
    versions = {package["name"].lower(): package["version"] for package in found}
    stamp.write_text(json.dumps({"requirements": wanted, "versions": versions}))
    return Environment(folder.absolute(), versions)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NotInstalled(said[-1] if said else f"{command[0]} ended with code {done.returncode}")
    return done.stdout
