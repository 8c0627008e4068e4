"""Import what ``"package.module:name"`` in a deployment file names."""

import importlib
import os
import re
import sys
from types import ModuleType

from export_pipeline.errors import ConfigurationError

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_object_path(text: str) -> bool:
    """Whether *text* has the form ``package.module:name``."""
    return _PATH.fullmatch(text) is not None


def load_object(path: str) -> object:
    """Import the object at *path*, ``"package.module:name"``; modules in the working folder are found, too.

    Raises:
        ConfigurationError: no such module or name; the message lists the names that exist.
    """
    if not is_object_path(path):
        raise ConfigurationError(f"{path!r} is not of the form package.module:name")
    module_name, _, attributes = path.partition(":")
    found: object = _load_module(module_name, path)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise ConfigurationError(f"{path}: {attribute!r} does not exist there; it has {_names(found)}")
        found = getattr(found, attribute)
    return found


def _load_module(module_name: str, path: str) -> ModuleType:
    _see_working_folder()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        own = module_name == missing or module_name.startswith(f"{missing}.")
        text = f"no module {missing!r} found" if own else f"{module_name} needs {missing!r}, which is not installed"
        raise ConfigurationError(f"{path}: {text} (looked in {os.getcwd()} and the installed packages)") from None
    except Exception as error:
        raise ConfigurationError(f"{path}: importing it raised {type(error).__name__}: {error}") from error


def _see_working_folder() -> None:
    """Make modules of the working folder importable: Dagster does so only while it loads definitions."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _names(found: object) -> str:
    """Public names of a module or class, at most twenty: those defined in it, or all if it defines none."""
    names = {name: value for name, value in getattr(found, "__dict__", {}).items() if not name.startswith("_")}
    own = [name for name, value in names.items() if getattr(value, "__module__", None) == _name_of(found)]
    return ", ".join((own or sorted(names))[:20]) or "no public name"


def _name_of(found: object) -> str | None:
    return found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", None)
