"""Find the deployment file of a command."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from export_pipeline.errors import ConfigurationError

VARIABLE = "EXPORT_DEPLOYMENT"
"""The environment variable that selects the deployment: a name, or a path."""

DEFAULT_NAME = "local"
"""The deployment of the demo, and the default."""

FOLDER = "deployments"
"""The folder of deployments that are selected by name."""

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class DeploymentFile:
    """A deployment file that exists.

    Attributes:
        name: the file's name without its suffix.
        path: relative to the working folder, or absolute.
    """

    name: str
    path: Path

    @property
    def root(self) -> Path:
        """The folder that relative paths in the file start at: that of ``deployments/``, otherwise the file's own."""
        folder = Path(os.path.abspath(self.path)).parent
        above = [one for one in (folder, *folder.parents) if one.name == FOLDER]
        return above[0].parent if above else folder

    @property
    def shown(self) -> str:
        """The path as shown in errors: relative if it is below the working folder."""
        absolute = self.path.absolute()
        folder = Path.cwd()
        return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def chosen(name_or_path: str | None, environ: Mapping[str, str] = os.environ) -> DeploymentFile:
    """Find the deployment file of a command.

    It is named by *name_or_path*, or else by EXPORT_DEPLOYMENT. If neither is given, only the working folder counts:
    ``deployments/local.yaml``, or the only file in ``deployments/``. So a command that is started in the wrong folder
    never reports on an unrelated deployment.

    Raises:
        ConfigurationError: the file does not exist; or none is named, and the working folder has none or several.
    """
    named = name_or_path or environ.get(VARIABLE)
    if named:
        return locate(named)
    files = files_in(Path(FOLDER))
    defaults = [path for path in files if path.stem == DEFAULT_NAME]
    if defaults or len(files) == 1:
        path = (defaults or files)[0]
        return DeploymentFile(path.stem, path)
    if files:
        names = [path.stem for path in files]
        raise ConfigurationError(
            f"{FOLDER}/ in {Path.cwd()} has several deployments, and none is selected. Select one of "
            f"{', '.join(names)}: export {VARIABLE}={names[0]}, or --deployment {names[0]}"
        )
    raise ConfigurationError(
        f"nothing is configured in {Path.cwd()}: it has no deployment file in {FOLDER}/. `export-pipeline init` "
        "writes one, and `export-pipeline demo` runs an export of sample files. If your deployment is elsewhere, "
        f"change to its folder, or name its file with --deployment or {VARIABLE}"
    )


def locate(name_or_path: str) -> DeploymentFile:
    """Find a deployment file by its name or path.

    Text that contains a slash, or ends in ``.yaml`` or ``.yml``, is a path. Anything else is a name:
    ``deployments/<name>.yaml`` is searched in the working folder, then next to the package (in a checkout of this
    project).

    Raises:
        ConfigurationError: there is no such file. The message lists those that exist.
    """
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(SUFFIXES):
        path = Path(name_or_path)
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "does not exist"
            raise ConfigurationError(f"{name_or_path} {kind}; {VARIABLE} is the path of a YAML file, or {_choices()}")
        return DeploymentFile(path.stem, path)
    for folder in _folders():
        for suffix in SUFFIXES:
            path = folder / f"{name_or_path}{suffix}"
            if path.is_file():
                return DeploymentFile(name_or_path, path)
    raise ConfigurationError(
        f"there is no deployment {name_or_path!r}; {VARIABLE} is {_choices()}, or the path of a YAML file"
    )


def _folders() -> Iterator[Path]:
    """The folders of named deployments: that of the working folder first, so that it takes precedence."""
    yield Path(FOLDER)
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        yield checkout / FOLDER


def files_in(folder: Path) -> list[Path]:
    """The deployment files directly in *folder*, sorted by name."""
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())


def _choices() -> str:
    """The existing names, as part of a sentence."""
    names = sorted({path.stem for folder in _folders() for path in files_in(folder)})
    if not names:
        return f"a name (but {Path.cwd() / FOLDER} has no deployment file; `export-pipeline init` writes one)"
    return "one of the names " + ", ".join(names)
