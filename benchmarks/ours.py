"""The installed project itself: a folder for a benchmark, and the commands that run in it."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from benchmarks.serving import ACCESS_KEY, REGION, ROOT, SECRET_KEY, Server, login

EMPTY_BUCKET = "empty"
"""A bucket without objects, on every server of the benchmarks."""

DEPLOYMENT = "deployment.yaml"
_NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def make_template(
    folder: Path, server: Server, *, subscribers: int = 1, options: Mapping[str, object] | None = None
) -> None:
    """A folder with a deployment, and with a ledger and Dagster's storage as a first run leaves them.

    They are not created again at every tick, so no measured run should create them.

    Args:
        subscribers: how many write files, each into its own folder below ``out/``.
        options: additional options of the deployment file.

    Raises:
        RuntimeError: the first run failed; the message is the end of its output.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "dagster.yaml", folder)
    deployment = {
        "source": {
            "url": f"s3://{EMPTY_BUCKET}/events/",
            "endpoint_url": server.endpoint,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
        },
        "subscribers": {name: {"type": "files", "url": f"out/{name}"} for name in _NAMES[:subscribers]},
        **(options or {}),
    }
    (folder / DEPLOYMENT).write_text(yaml.safe_dump(deployment))
    for command in (empty_command(), export_command()):
        environ = environment(server, folder)
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError((done.stdout + done.stderr)[-2_000:])


def copy_project(template: Path, folder: Path, server: Server, *, bucket: str) -> None:
    """Copy *template* to *folder* as a separate project that exports *bucket*."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    path = folder / DEPLOYMENT
    deployment = yaml.safe_load(path.read_text())
    deployment["source"] |= {"url": f"s3://{bucket}/events/", "endpoint_url": server.endpoint}
    path.write_text(yaml.safe_dump(deployment))


def environment(server: Server | None, folder: Path) -> dict[str, str]:
    """The environment of a command that runs in *folder*: of the caller's variables only PATH."""
    bare = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
    }
    dagster = {"DAGSTER_HOME": str(folder.absolute()), "EXPORT_DEPLOYMENT": str((folder / DEPLOYMENT).absolute())}
    return {**bare, **dagster, **(login(server) if server else {})}


def export_command() -> list[str]:
    """One run of the export, as started by a schedule's tick or by hand."""
    return _dagster("-m", "export_pipeline.definitions", "-j", "export_job")


def empty_command() -> list[str]:
    """A Dagster job that does nothing, in the same environment."""
    return _dagster("-f", str(ROOT / "benchmarks" / "empty_job.py"), "-j", "empty_job")


def data_path_command(bucket: str, *, max_files: int) -> list[str]:
    """The same steps without Dagster; it writes its times to ``times.json``."""
    return [sys.executable, str(ROOT / "benchmarks" / "data_path.py"), bucket, str(max_files)]


def delivered(folder: Path) -> list[Path]:
    """The files delivered to the first subscriber."""
    return sorted((folder / "out" / "one").rglob("*.ndjson"))


def _dagster(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("dagster")), "job", "execute", *arguments]
