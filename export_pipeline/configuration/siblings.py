"""Detect deployment files in one folder that would share a ledger for the same source.

A ledger identifies a subscriber by its name and source. If two deployments use the same names, each delivers files that
the other was to deliver, and the runs succeed; if not, each run of one deactivates the other's subscribers.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from export_pipeline.configuration.document import Problem, read_document
from export_pipeline.configuration.location import SUFFIXES, DeploymentFile
from export_pipeline.configuration.places import absolute_ledger, absolute_url
from export_pipeline.configuration.stores import LedgerSettings
from export_pipeline.configuration.validation import DeploymentDraft
from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.location import parse_location

_MOST_FILES = 200


def sibling_problems(location: DeploymentFile, draft: DeploymentDraft, root: Path) -> Iterator[Problem]:
    """The first other file in the folder with the same source and the same ledger.

    Ledgers set by an environment variable are not compared: each deployment can have its own value.

    Args:
        location: the file that is being read.
        root: the folder that its relative paths start at.
    """
    own = _export(draft.document.tree, root)
    if own is None:
        return
    for path in _siblings(location.path):
        try:
            tree = read_document(path.read_bytes()).tree
        except OSError:
            continue
        if _export(tree, DeploymentFile(path.stem, path).root) == own:
            text = (
                f"{path.name} beside this file has the same source and the same ledger, {own[1]}: subscribers with the "
                "same name would get each other's files. Allowed: a separate ledger for one of them, such as "
                f".dagster/{location.name}.db, with separate folders for staging and quarantine"
            )
            yield Problem(draft.document.line(("ledger",)), ("ledger", "url"), text)
            return


def _siblings(path: Path) -> Iterator[Path]:
    others = (one for one in sorted(path.absolute().parent.glob("*")) if one.suffix in SUFFIXES and one.is_file())
    return (one for one in islice(others, _MOST_FILES) if not os.path.samefile(one, path))


def _export(tree: Mapping[str, Any], root: Path) -> tuple[str, str] | None:
    """Source and ledger of a deployment file, as absolute locations; None if they are unknown."""
    source, ledger = tree.get("source"), tree.get("ledger") or {}
    if not isinstance(source, Mapping) or not isinstance(ledger, Mapping):
        return None
    url, database = source.get("url"), ledger.get("url", LedgerSettings.model_fields["url"].default)
    if not isinstance(url, str) or not isinstance(database, str):
        return None
    try:
        where = parse_location(absolute_url(url, root)).url
    except ConfigurationError:
        return None
    found = str(absolute_ledger(database, root)).removeprefix("sqlite:///")
    return where, found if "://" in found else os.path.abspath(found)
