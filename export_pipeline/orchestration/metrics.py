"""The end of a run in metrics: the ledger keeps how it ended, and metrics are pushed if a collector is configured."""

from collections.abc import Callable
from importlib.metadata import version

from export_pipeline.configuration.settings import OtlpSettings
from export_pipeline.deployment import Deployment
from export_pipeline.errors import MetricsNotPushed
from export_pipeline.ledger import counters, sources
from export_pipeline.ledger.database import Ledger, utc_now
from export_pipeline.ledger.figures import ExportFigures, export_figures
from export_pipeline.metrics.catalogue import metrics_of
from export_pipeline.metrics.otlp import Collector
from export_pipeline.storage.location import parse_location

# Endpoint → why it did not accept metrics last. A process with many runs, such as follow, warns once.
_TOLD: dict[str, str] = {}


def keep_end(ledger: Ledger, url: str, *, succeeded: bool) -> None:
    """Record that a run of the export of the source at *url* ended now."""
    with ledger.write() as tx:
        if (source_id := sources.source_id(tx, url)) is not None:
            counters.run_ended(tx, source_id, succeeded=succeeded, now=utc_now())


def push(deployment: Deployment, ledger: Ledger, warn: Callable[[str], None]) -> None:
    """Push the metrics of the export, if the deployment has ``metrics.otlp``.

    A collector that does not accept them within the timeout is a warning, once until it accepts again.
    """
    otlp = deployment.metrics.otlp
    if otlp is None:
        return
    with ledger.read() as tx:
        source_id = sources.source_id(tx, parse_location(deployment.source.url).url)
        figures = None if source_id is None else export_figures(tx, source_id, now=utc_now())
    where = otlp.endpoint or ""
    try:
        push_to(deployment, otlp, figures)
    except MetricsNotPushed as error:
        if where not in _TOLD:
            warn(f"metrics were not pushed (metrics.otlp): {error}; deliveries are not affected")
        _TOLD[where] = str(error)
    else:
        _TOLD.pop(where, None)


def push_to(deployment: Deployment, otlp: OtlpSettings, figures: ExportFigures | None) -> None:
    """Push *figures* to a collector; None: only that there is this deployment.

    Raises:
        MetricsNotPushed: the collector did not accept them in time.
    """
    package = version("export-pipeline")
    measured = metrics_of(figures, deployment=deployment.name, version=package, in_use=deployment.enabled)
    collector = Collector(otlp.endpoint, otlp.timeout_seconds, otlp.headers, deployment.secret_values())
    collector.push(measured, version=package)
