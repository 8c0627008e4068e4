"""The types of subscribers: shipped and third-party ones are registered in the same way, by an entry point."""

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

from export_pipeline.errors import ConfigurationError
from export_pipeline.subscribers.importing import is_object_path, load_object

if TYPE_CHECKING:
    from export_pipeline.subscribers.base import Subscriber

GROUP = "export_pipeline.subscribers"
DISTRIBUTION = "export-pipeline"


def known_types() -> dict[str, EntryPoint]:
    """Name of each type → its entry point, sorted by name; nothing is imported.

    Raises:
        ConfigurationError: two packages register the same name.
    """
    known: dict[str, EntryPoint] = {}
    for found in _registered():
        other = known.setdefault(found.name, found)
        if other.value != found.value:
            raise ConfigurationError(f"two packages register a subscriber {found.name!r}: {other.value}, {found.value}")
    return dict(sorted(known.items()))


@cache
def _registered() -> tuple[EntryPoint, ...]:
    """What the installed packages register, read once per process: the metadata of every package has to be read."""
    return tuple(entry_points(group=GROUP))


def resolve(type_name: str) -> "type[Subscriber]":
    """The class of ``type: <type_name>`` in a deployment file.

    Args:
        type_name: a known name, or ``package.module:Class``.

    Raises:
        ConfigurationError: unknown (the message lists the known ones), not importable (the message says which extra
            to install), or not a subscriber.
    """
    if is_object_path(type_name):
        return _checked(type_name, load_object(type_name))
    known = known_types()
    if type_name not in known:
        close = get_close_matches(type_name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigurationError(
            f"unknown type {type_name!r}: {hint}known are {', '.join(known)}, or package.module:Class"
        )
    entry_point = known[type_name]
    try:
        found: object = entry_point.load()
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"type {type_name!r} needs {error.name!r}, which is not installed: {_remedy(entry_point)}"
        ) from None
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"type {type_name!r} ({entry_point.value}) cannot be loaded: {error}") from error
    checked = _checked(type_name, found)
    missing = [module for module in checked.needs if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"type {type_name!r} needs {missing[0]!r}, which is not installed: {_remedy(entry_point)}"
        )
    return checked


def _checked(type_name: str, found: object) -> "type[Subscriber]":
    from export_pipeline.subscribers.base import Subscriber

    if not isinstance(found, type):
        raise ConfigurationError(f"type {type_name!r} is a {type(found).__name__}, not a class")
    if not issubclass(found, Subscriber):
        raise ConfigurationError(f"type {type_name!r} is not a subclass of {Subscriber.__module__}:Subscriber")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ConfigurationError(f"type {type_name!r} does not define {', '.join(missing)}()")
    return found


def _remedy(entry_point: EntryPoint) -> str:
    """The command that installs what an entry point needs: the extras that it names in brackets."""
    package = entry_point.dist.name if entry_point.dist else DISTRIBUTION
    extras = f"[{','.join(entry_point.extras)}]" if entry_point.extras else ""
    return f'pip install "{package}{extras}"'
