"""Push metrics to an OpenTelemetry collector, over OTLP/HTTP with protobuf.

The exporter is OpenTelemetry's own, so its standard variables apply: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``…_HEADERS``,
``…_COMPRESSION``, ``…_CERTIFICATE``, ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``. The SDK's own readers are not
used: they collect at intervals, and a run is over before one has passed.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from export_pipeline.errors import MetricsNotPushed
from export_pipeline.metrics.catalogue import Measured
from export_pipeline.secrets import scrub

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

SERVICE = "export_pipeline"
_PATH = "v1/metrics"
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS")
_LOGGER = "opentelemetry"
# The thread of follow pushes beside the runs, and both keep the exporter out of the logs meanwhile.
_ONE_AT_A_TIME = threading.Lock()
# urllib3 repeats the address and names of classes around the error of the system.
_OF_SYSTEM = re.compile(r"\[Errno -?\d+\] [^\"'()]+")


@dataclass(frozen=True, slots=True)
class Collector:
    """Where metrics are pushed.

    Attributes:
        endpoint: base URL; None: that of the standard variables, otherwise ``http://localhost:4318``.
        headers: in addition to those of the standard variables.
        timeout_seconds: for all attempts together.
        secrets: values that may not appear in an error.
    """

    endpoint: str | None
    timeout_seconds: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Iterable[str] = field(default=(), repr=False)

    def push(self, measured: Sequence[Measured], *, version: str) -> None:
        """Push all metrics in one request; returns once the collector has accepted them.

        Args:
            version: of this package.

        Raises:
            MetricsNotPushed: it did not accept them in time.
        """
        try:
            reason = self._push(measured, version)
        except Exception as error:  # noqa: BLE001 (of a library; metrics must not fail a run)
            reason = f"{type(error).__name__}: {error}"
        if reason:
            hidden = {*self.secrets, *self.headers.values(), *_secrets_of_environment()}
            raise MetricsNotPushed(scrub(reason, hidden))

    def _push(self, measured: Sequence[Measured], version: str) -> str:
        """Why the metrics were not accepted; empty if they were."""
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import MetricExportResult
        from requests import Response, Session

        said = []

        class Listening(Session):
            """Keeps what each attempt came to, which the exporter says only in its log."""

            def request(self, *args: Any, **options: Any) -> Response:
                try:
                    response = super().request(*args, **options)
                except Exception as error:
                    said.append(_told(error))
                    raise
                said.append(
                    "" if response.ok and not response.is_redirect else f"{response.status_code} {response.reason}"
                )
                return response

        with _ONE_AT_A_TIME, _quiet(), Listening() as session:
            exporter = OTLPMetricExporter(
                endpoint=f"{self.endpoint.rstrip('/')}/{_PATH}" if self.endpoint else None,
                headers=dict(self.headers),
                timeout=self.timeout_seconds,
                session=session,
            )
            result = exporter.export(_data(measured, version))
            exporter.shutdown()
        # The exporter takes a redirect, which it does not follow, for success.
        return said[-1] if said else "" if result is MetricExportResult.SUCCESS else "the exporter gives no reason"


def _told(error: Exception) -> str:
    of_system = _OF_SYSTEM.search(str(error))
    return of_system.group() if of_system else f"{type(error).__name__}: {error}"


def _data(measured: Sequence[Measured], version: str) -> "MetricsData":
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    now = time.time_ns()
    own = Resource({"service.name": SERVICE, "service.version": version})
    scope = InstrumentationScope(SERVICE, version)
    metrics = [_metric(one, now) for one in measured if one.samples]
    resource = own.merge(OTELResourceDetector().detect())
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def _metric(one: Measured, now: int) -> "Metric":
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Metric, NumberDataPoint, Sum

    points = [
        NumberDataPoint(
            attributes=dict(sample.labels),
            start_time_unix_nano=int(sample.since.timestamp() * 1e9) if sample.since else 0,
            time_unix_nano=now,
            value=sample.value,
        )
        for sample in one.samples
    ]
    data: Gauge | Sum = Gauge(points)
    if one.kind == "counter":
        data = Sum(points, aggregation_temporality=AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Metric(one.name, one.help, one.unit, data)


def _secrets_of_environment() -> Iterator[str]:
    """Values of headers that the standard variables set, which usually contain a token."""
    for name in _HEADERS:
        for pair in os.environ.get(name, "").split(","):
            value = pair.partition("=")[2].strip()
            yield from {value, unquote(value)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter logs, on several lines and with addresses, out of all logs."""
    logger, handler = logging.getLogger(_LOGGER), logging.NullHandler()
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
