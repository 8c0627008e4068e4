"""What the steps need to know of a deployment, as its file has it."""

from datetime import timedelta

from export_pipeline.deployment import Deployment
from export_pipeline.ledger.planning import PlanLimits
from export_pipeline.source.layout import Layout
from export_pipeline.steps.discover import DiscoverySettings
from export_pipeline.storage.location import parse_location


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
    """How files are grouped and their events cut."""
    return PlanLimits(
        max_events=deployment.batch.max_events,
        max_bytes=deployment.batch.max_bytes,
        manifest_max_files=deployment.manifest.max_files,
        manifest_max_bytes=deployment.manifest.max_bytes,
    )


def wanted(deployment: Deployment) -> dict[str, str | None]:
    """Subscriber → where it starts: now, beginning or a date; None: where the deployment's ``start_from`` says."""
    return {name: None if entry.since is None else str(entry.since) for name, entry in deployment.subscribers.items()}
