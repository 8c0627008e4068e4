"""Open a deployment's stores and subscribers without Dagster: for the command line, scripts and tests."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.deployment import Deployment
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import PlanLimits
from export_pipeline.secrets import EnvRef, resolve
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.layout import Layout
from export_pipeline.source.store import Source, open_source
from export_pipeline.steps.discover import DiscoverySettings
from export_pipeline.steps.stopping import Stop, never
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.objects import open_objects

if TYPE_CHECKING:
    from export_pipeline.configuration.subscribers import SubscriberEntry
    from export_pipeline.subscribers.base import Subscriber


@dataclass(frozen=True, slots=True)
class Workspace:
    """The open source, ledger and stores of one export, and its limits.

    Attributes:
        max_attempts: how many runs try to read an unreadable file before it is quarantined as a whole.
        secrets: values that must not appear in a reason, a log or the ledger.
        stop: why a reading in progress must end, once it has taken *reading_seconds*.
        reading_seconds: how long a reading may take in any case, even if the run's time budget ends earlier.
        on_overwrite: read, ignore or changed: how a known key with new content is treated.
    """

    source: Source
    ledger: Ledger
    staging: Staging
    quarantine: Quarantine
    limits: ReadLimits
    max_attempts: int
    secrets: frozenset[str] = frozenset()
    stop: Stop = never
    reading_seconds: float = math.inf
    on_overwrite: str = "read"


@contextmanager
def open_workspace(deployment: Deployment) -> Iterator[Workspace]:
    """Everything that reading and delivering need; closed when the block ends.

    Does not access source, staging and quarantine yet. Creates or migrates the ledger if needed.

    Raises:
        ConfigurationError: a URL is invalid, or an environment variable is no longer set.
        LedgerError: the ledger was written by a newer version.
    """
    with ExitStack() as stack:
        source = open_source(deployment.source)
        stack.callback(source.close)
        ledger = Ledger(resolve(deployment.ledger.url) or "")
        stack.callback(ledger.close)
        staging = Staging(open_objects(deployment.staging.url, deployment.staging, private=True))
        stack.callback(staging.close)
        quarantine = Quarantine(open_objects(deployment.quarantine.url, deployment.quarantine, private=True))
        yield workspace_of(deployment, source=source, ledger=ledger, staging=staging, quarantine=quarantine)


def workspace_of(
    deployment: Deployment, *, source: Source, ledger: Ledger, staging: Staging, quarantine: Quarantine
) -> Workspace:
    """The open source, ledger and stores, with the limits of *deployment* for reading and delivering."""
    return Workspace(
        source=source,
        ledger=ledger,
        staging=staging,
        quarantine=quarantine,
        limits=ReadLimits(**deployment.limits.model_dump()),
        max_attempts=deployment.max_attempts,
        secrets=deployment.secret_values(),
        on_overwrite=deployment.source.on_overwrite,
    )


@contextmanager
def open_subscriber(entry: "SubscriberEntry") -> "Iterator[Subscriber]":
    """The subscriber that an entry of the deployment file describes, with its secrets; closed when the block ends.

    Raises:
        ConfigurationError: an environment variable is no longer set.
    """
    subscriber = entry.resource_class(**{name: _resolved(value) for name, value in entry.options.items()})
    try:
        yield subscriber
    finally:
        subscriber.close()


def _resolved(value: Any) -> Any:
    if isinstance(value, EnvRef):
        return value.resolve()
    if isinstance(value, Mapping):
        return {key: _resolved(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(inner) for inner in value]
    return value


def discovery_settings(deployment: Deployment) -> DiscoverySettings:
    """How files are found and grouped."""
    return DiscoverySettings(
        layout=Layout(deployment.source.layout),
        start_date=deployment.source.start_date,
        lookback=timedelta(hours=deployment.lookback_hours),
        on_overwrite=deployment.source.on_overwrite,
        start_from=str(deployment.start_from),
        limits=plan_limits(deployment),
        prefix=parse_location(deployment.source.url).prefix,
    )


def plan_limits(deployment: Deployment) -> PlanLimits:
    """How files are grouped into manifests and their events cut into batches."""
    return PlanLimits(
        max_events=deployment.batch.max_events,
        max_bytes=deployment.batch.max_bytes,
        manifest_max_files=deployment.manifest.max_files,
        manifest_max_bytes=deployment.manifest.max_bytes,
    )


def wanted(deployment: Deployment) -> dict[str, str | None]:
    """Subscriber → where it starts: now, beginning or a date; None: at the deployment's ``start_from``."""
    return {name: None if entry.since is None else str(entry.since) for name, entry in deployment.subscribers.items()}
