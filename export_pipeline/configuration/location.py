"""Which file describes the deployment."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export_pipeline.errors import ConfigurationError

VARIABLE = "EXPORT_DEPLOYMENT"
"""The environment variable that chooses the deployment: a name, or a path."""

DEFAULT_NAME = "local"
_EMBEDDED = Path(__file__).with_name("local.yaml")
_FOLDER = "deployments"
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class DeploymentFile:
    """A deployment file that exists.

    Attributes:
        name: the file's name without its suffix.
        path: as it is to be read from the working folder.
    """

    name: str
    path: Path

    @property
    def root(self) -> Path:
        """Where relative paths in the file start: the folder that holds ``deployments/``, else the file's own."""
        if self.path == _EMBEDDED or (self.name == DEFAULT_NAME and self.path.read_bytes() == _EMBEDDED.read_bytes()):
            return Path.cwd()  # that of the demo, which makes its bucket and all else where it is started
        folder = Path(os.path.abspath(self.path)).parent
        above = [one for one in (folder, *folder.parents) if one.name == _FOLDER]
        return above[0].parent if above else folder

    @property
    def shown(self) -> str:
        """The path as errors name it: relative where it lies under the working folder."""
        absolute = self.path.absolute()
        folder = Path.cwd()
        return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def locate(name_or_path: str) -> DeploymentFile:
    """Find a deployment file.

    A text with a slash in it, or that ends in ``.yaml`` or ``.yml``, is a path. Anything else is a name:
    ``deployments/<name>.yaml`` is looked for in the working folder, then beside the package (in a checkout of this
    project). ``local`` is embedded in the package too.

    Raises:
        ConfigurationError: there is no such file. Names those that there are.
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
    if name_or_path == DEFAULT_NAME:
        return DeploymentFile(DEFAULT_NAME, _EMBEDDED)
    raise ConfigurationError(
        f"there is no deployment {name_or_path!r}; {VARIABLE} is {_choices()}, or the path of a YAML file"
    )


def _folders() -> Iterator[Path]:
    """Where named deployments lie: in the working folder first, so that it wins."""
    yield Path(_FOLDER)
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        yield checkout / _FOLDER


def _choices() -> str:
    """The names that exist, as part of a sentence."""
    names = {DEFAULT_NAME}
    for folder in _folders():
        names.update(path.stem for path in folder.glob("*") if path.suffix in SUFFIXES)
    return "one of the names " + ", ".join(sorted(names))
