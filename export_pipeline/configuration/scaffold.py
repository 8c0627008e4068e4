"""Write the files that Dagster needs to run an export in a folder, from the templates in this package."""

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
    """Write the settings of Dagster that the working folder lacks; existing files are never changed.

    Without workspace.yaml Dagster would not know what to load. Without this dagster.yaml it would drop queued runs
    while a code server restarts, keep a dead run in the queue for ever, and lose all runs when it stops. dagster.yaml
    is not written if DAGSTER_HOME is another folder.

    Returns:
        The names of the files that were written.
    """
    written = _write([_WORKSPACE])
    home = dagster_home()
    if home.exists() and home.samefile(Path.cwd()):
        written += _write([_INSTANCE])
        # Dagster would make it readable by all users; it contains keys of files and answers of destinations.
        _DATA.mkdir(mode=0o700, exist_ok=True)
    return written


def write_demo() -> list[str]:
    """Write the same settings, and the deployment file of the demo.

    Raises:
        ConfigurationError: the folder has other deployments. The demo's would become the default for commands that
            name none.
    """
    others = [path.name for path in files_in(Path(FOLDER)) if path.stem != DEFAULT_NAME]
    if others and not _as_found(Path(_DEMO)).exists():
        raise ConfigurationError(
            f"{Path.cwd()} already has deployments ({', '.join(others)}); run the demo in an empty folder: "
            "mkdir try && cd try"
        )
    return [*_write([_DEMO]), *write_settings()]


def dagster_home() -> Path:
    """The folder of Dagster's settings: DAGSTER_HOME, or the working folder if that is not set."""
    return Path(os.environ.get("DAGSTER_HOME") or Path.cwd())


def workspace_file() -> Path:
    """The working folder's file that tells Dagster what to load."""
    return _as_found(Path(_WORKSPACE))


def _as_found(path: Path) -> Path:
    """*path*, or the same with the suffix ``.yml``, which Dagster also reads, if only that exists."""
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
