"""Relative paths of a deployment: they are resolved from the deployment, not from the working folder.

They start at the deployment's root: the folder that contains ``deployments/`` if the file is anywhere below such a
folder, otherwise the file's own folder.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from export_pipeline.configuration.document import Place, Problem
from export_pipeline.configuration.subscribers import SubscriberEntry
from export_pipeline.configuration.validation import DeploymentDraft
from export_pipeline.errors import ConfigurationError
from export_pipeline.secrets import EnvRef
from export_pipeline.storage.location import parse_location

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_SQLITE = "sqlite:///"


def absolute_url(url: str, root: Path) -> str:
    """*url*, with a relative path resolved from *root*; unchanged if *root* is the working folder."""
    path = url.removeprefix("file:") if url.startswith("file:") else url
    if not path or _SCHEME.match(path) or path.startswith(("/", "~")) or is_here(root):
        return url
    return os.path.normpath(root / path)


def absolute_ledger(url: str | EnvRef, root: Path) -> str | EnvRef:
    """The same for a ledger's URL. Only an SQLite ledger has a path, which is not a secret."""
    path = _written(url).removeprefix(_SQLITE)
    found = absolute_url(path, root)
    return url if found == path else found


def absolute_entry(entry: SubscriberEntry, root: Path) -> SubscriberEntry:
    """The same for a subscriber's folders."""
    options = _texts(entry)
    moved = {
        name: absolute_url(url, root)
        for name, url in entry.resource_class.folders(options).items()
        if name in options and absolute_url(url, root) != url
    }
    return replace(entry, options={**entry.options, **moved}) if moved else entry


def unplaced(subscribers: Mapping[str, SubscriberEntry], draft: DeploymentDraft, root: Path) -> list[Problem]:
    """Subscribers that write to the working folder by default, if that is not the deployment's root."""
    if is_here(root):
        return []
    problems = []
    for entry in subscribers.values():
        above: Place = ("subscribers", entry.name)
        for name in entry.resource_class.folders(_texts(entry)).keys() - entry.options.keys():
            text = (
                "this key is missing, and its default would be the folder that a command runs in; allowed: a path, "
                f"relative to {root} or absolute"
            )
            problems.append(Problem(draft.document.line(above), (*above, name), text))
    return problems


def refuse_second_ledger(ledger: str | EnvRef, source_url: str, root: Path) -> None:
    """Refuse to start a second ledger if the first one was created when paths were relative to the working folder.

    Args:
        ledger, source_url: as written in the deployment file.

    Raises:
        ConfigurationError: the working folder has a ledger of this source, and the deployment's folder none.
    """
    path = _written(ledger).removeprefix(_SQLITE)
    old, new = Path(path), Path(absolute_url(path, root))
    if new == old or new.exists() or not old.is_file():
        return
    from export_pipeline.ledger.database import knows_source

    urls = [parse_location(url).url for url in (source_url, absolute_url(source_url, root))]
    if knows_source(old, urls):
        raise ConfigurationError(
            f"ledger.url: found the relative path {path}, which is resolved from {root}, the folder of the deployment. "
            f"There is no ledger there, but {old.absolute()} is a ledger of this source: with a new ledger, everything "
            f"would be delivered again. Allowed: {old.absolute()} as ledger.url, and absolute paths for staging.url, "
            f"quarantine.url and every other relative path; or move that ledger to {new} while nothing is running"
        )


def is_here(root: Path) -> bool:
    """Whether *root* is the working folder, so that relative paths are the same either way."""
    return root == Path.cwd() or (root.exists() and root.samefile(Path.cwd()))


def _written(value: str | EnvRef) -> str:
    """The text, or the value of the variable that it references."""
    return os.environ.get(value.env, "") if isinstance(value, EnvRef) else value


def _texts(entry: SubscriberEntry) -> dict[str, str]:
    return {name: _written(value) for name, value in entry.options.items() if isinstance(value, str | EnvRef)}
