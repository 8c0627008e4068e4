"""A deployment file read for its locations only: source, ledger, quarantine, and the names of its subscribers.

A subscriber's class is a Dagster resource, and importing Dagster takes most of a second. Commands that only read the
ledger need neither that nor the secrets of destinations: a variable that only a subscriber references can be unset.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from export_pipeline.configuration.document import configuration_error, read_document
from export_pipeline.configuration.environment import read_environment
from export_pipeline.configuration.location import chosen
from export_pipeline.configuration.settings import StartFrom
from export_pipeline.configuration.stores import QuarantineSettings
from export_pipeline.configuration.validation import DeploymentDraft, problems_of, secret_places
from export_pipeline.deployment import Deployment, placed
from export_pipeline.errors import ConfigurationError
from export_pipeline.secrets import resolve
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.layout import Layout
from export_pipeline.source.settings import SourceSettings
from export_pipeline.steps.next_listing import ListingRules
from export_pipeline.storage.location import parse_location

_NEEDED = ("source", "ledger", "quarantine", "limits", "lookback_hours", "start_from", "enabled", "prefix")


@dataclass(frozen=True, slots=True)
class Outline:
    """The locations of one deployment.

    Attributes:
        name: the file's name without ``.yaml``.
        path: the file, as found.
        ledger_url: with its password.
        subscribers: names, in the order of the file.
        secrets: values that must never be printed.
    """

    name: str
    path: Path
    source: SourceSettings
    ledger_url: str
    quarantine: QuarantineSettings
    limits: ReadLimits
    lookback_hours: float
    start_from: StartFrom
    enabled: bool
    prefix: str
    subscribers: tuple[str, ...]
    secrets: frozenset[str]

    def listing_rules(self) -> ListingRules:
        """Which files of a listing are exported."""
        return ListingRules(
            layout=Layout(self.source.layout),
            start_date=self.source.start_date,
            lookback=timedelta(hours=self.lookback_hours),
            on_overwrite=self.source.on_overwrite,
            prefix=parse_location(self.source.url).prefix,
            follows_messages=self.source.notifications is not None,
        )


def load_outline(name_or_path: str | None = None, environ: Mapping[str, str] = os.environ) -> Outline:
    """Read the locations from a deployment file.

    Args:
        name_or_path: as for :func:`export_pipeline.deployment.load_deployment`.
        environ: the variables for ``{env: NAME}``.

    Raises:
        ConfigurationError: there is no such file, or its locations are invalid.
    """
    location = chosen(name_or_path, environ)
    try:
        data = location.path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{location.shown}: cannot be read: {error.strerror}") from error
    document = read_document(data)
    if not document.tree:
        raise configuration_error(location.shown, document.problems)
    environment = read_environment(document, environ)
    draft = DeploymentDraft(document, environment, frozenset(secret_places(Deployment)))
    problems = [*document.problems, *(one for one in environment.problems if one.place[:1] and one.place[0] in _NEEDED)]
    try:
        found = Deployment.model_validate(_needed(draft.with_references_at(draft.secret_places)))
    except ValidationError as error:
        raise configuration_error(location.shown, [*problems, *problems_of(error, draft, Deployment)]) from None
    if problems:
        raise configuration_error(location.shown, problems)
    found = placed(found, location.root)
    names = document.tree.get("subscribers")
    return Outline(
        name=location.name,
        path=location.path,
        source=found.source,
        ledger_url=resolve(found.ledger.url) or "",
        quarantine=found.quarantine,
        limits=ReadLimits(**found.limits.model_dump()),
        lookback_hours=found.lookback_hours,
        start_from=found.start_from,
        enabled=found.enabled,
        prefix=found.prefix,
        subscribers=tuple(names) if isinstance(names, dict) else (),
        secrets=frozenset(environment.values | draft.literal_secrets()),
    )


def _needed(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if key in _NEEDED}
