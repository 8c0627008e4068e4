"""The files that a folder needs before Dagster can run an export in it, written from those that the package brings."""

import os
from collections.abc import Iterable
from pathlib import Path

from export_pipeline.configuration.location import DEFAULT_NAME, FOLDER, files_in
from export_pipeline.errors import ConfigurationError

_SHIPPED = Path(__file__).parent
_DEMO = f"{FOLDER}/{DEFAULT_NAME}.yaml"
_WORKSPACE, _INSTANCE = "workspace.yaml", "dagster.yaml"
_DATA = Path(".dagster")


def write_settings() -> list[str]:
    """Write the settings of Dagster that the working folder does not have; never change those that it has.

    Without workspace.yaml Dagster would not know what to load. Without this dagster.yaml it would drop queued runs
    while a code server restarts, keep a dead run in the queue for ever, and forget all runs when it ends. That file is
    left out where DAGSTER_HOME names another place for it.

    Returns:
        The names of the files that were written.
    """
    written = _write([_WORKSPACE])
    home = dagster_home()
    if home.exists() and home.samefile(Path.cwd()):
        written += _write([_INSTANCE])
        # Dagster would make it readable by everybody; in it are keys of files, and what destinations answered.
        _DATA.mkdir(mode=0o700, exist_ok=True)
    return written


def write_demo() -> list[str]:
    """The same, and the deployment file of the demo.

    Raises:
        ConfigurationError: the folder has other deployments. The demo's would be the default from then on, for commands
            that name none.
    """
    others = [path.name for path in files_in(Path(FOLDER)) if path.stem != DEFAULT_NAME]
    if others and not _as_found(Path(_DEMO)).exists():
        raise ConfigurationError(
            f"{Path.cwd()} has deployments already ({', '.join(others)}); run the demo in a folder of its own: "
            "mkdir try && cd try"
        )
    return [*_write([_DEMO]), *write_settings()]


def dagster_home() -> Path:
    """Where Dagster's settings are: DAGSTER_HOME, or the working folder where that is not set."""
    return Path(os.environ.get("DAGSTER_HOME") or Path.cwd())


def workspace_file() -> Path:
    """The file that tells Dagster what to load, as the working folder has it."""
    return _as_found(Path(_WORKSPACE))


def _as_found(path: Path) -> Path:
    """*path*, or the same with the other suffix that Dagster reads, where only that exists."""
    other = path.with_suffix(".yml")
    return other if other.exists() and not path.exists() else path


def _write(names: Iterable[str]) -> list[str]:
    written = []
    for name in names:
        path = Path(name)
        if _as_found(path).exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write((_SHIPPED / path.name).read_bytes())
        written.append(name)
    return written
