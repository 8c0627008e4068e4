"""Every metric: its name, what it means, and its value from the ledger's figures.

The names are those of Prometheus without ``_total``, which its text format and an OpenTelemetry collector both append
to a counter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from export_pipeline.batching.record import FILE, REFUSED, STRETCH
from export_pipeline.ledger.counters import Counters
from export_pipeline.ledger.figures import ExportFigures, SubscriberFigures

PREFIX = "export_pipeline_"
_SECONDS, _BYTES, _EVENTS, _FILES, _ONE = "s", "By", "{event}", "{file}", ""
_KINDS = {STRETCH: "malformed", FILE: "unreadable", REFUSED: "refused"}
_TIME = "in seconds since 1970; missing if there was none"


@dataclass(frozen=True, slots=True)
class MetricSample:
    """One value of a metric.

    Attributes:
        labels: name → value.
        since: start of a counter; None for a gauge.
    """

    value: float
    labels: dict[str, str]
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric with its values.

    Attributes:
        unit: as UCUM writes it.
    """

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    help: str
    samples: tuple[MetricSample, ...]


@dataclass(frozen=True, slots=True)
class _Gauge:
    """Of one subscriber; there is no sample for None."""

    name: str
    unit: str
    help: str
    value: Callable[[SubscriberFigures], float | None]


_GAUGES = (
    _Gauge(
        "lag_seconds",
        _SECONDS,
        "Age of the oldest file that the subscriber has not received; 0 if it is owed none.",
        lambda one: one.lag_seconds,
    ),
    _Gauge("owed_files", _FILES, "Files that the subscriber has not received.", lambda one: one.owed_files),
    _Gauge("owed_bytes", _BYTES, "Size of these files, as stored.", lambda one: one.owed_bytes),
    _Gauge(
        "failing",
        _ONE,
        "1 if the latest attempt to deliver to the subscriber failed, otherwise 0.",
        lambda one: one.is_failing,
    ),
    _Gauge(
        "blocked",
        _ONE,
        "1 if later attempts will fail as well until someone acts, for example because of a wrong password; "
        "otherwise 0.",
        lambda one: one.is_blocked,
    ),
    _Gauge(
        "last_delivery_timestamp_seconds",
        _SECONDS,
        f"When the subscriber last received a manifest completely, {_TIME}.",
        lambda one: _moment(one.succeeded_at),
    ),
)

# Attribute of Counters, which is also the metric's name → unit and meaning.
_COUNTERS = {
    "delivered_events": (_EVENTS, "Events that the subscriber accepted. What it receives again counts again."),
    "delivered_bytes": (_BYTES, "Size of the batches that the subscriber accepted, as NDJSON before compression."),
    "delivered_batches": ("{batch}", "Batches that the subscriber accepted."),
    "refused_events": (_EVENTS, "Events that the subscriber refused; they are in the quarantine."),
    "filtered_events": (_EVENTS, "Events that the configuration excludes (only, except)."),
    "calls": ("{call}", "Calls of the destination: requests, or loads of a warehouse."),
    "call_seconds": (_SECONDS, "Duration of these calls, without the pauses between them."),
    "retries": ("{retry}", "Calls that were repeated after a pause."),
    "failed_attempts": ("{batch}", "Batches that were not accepted in a run, after all retries of that run."),
}


def metrics_of(figures: ExportFigures | None, *, deployment: str, version: str, in_use: bool = True) -> list[Measured]:
    """All metrics of an export, each with a label ``deployment``.

    Args:
        figures: None: no run has seen the source yet.
        version: of this package.
        in_use: the deployment is enabled.
    """
    own = {"deployment": deployment}
    found = [
        Measured(
            f"{PREFIX}info",
            "gauge",
            _ONE,
            "Always 1; the version is a label.",
            (MetricSample(1.0, own | {"version": version}),),
        ),
        _of_export("enabled", _ONE, "1 if the deployment is enabled, otherwise 0.", in_use, own),
    ]
    if figures is None:
        return found
    return [*found, *_of_the_export(figures, own), *_of_subscribers(figures, own), _records(figures, own)]


def _of_the_export(figures: ExportFigures, own: dict[str, str]) -> Iterator[Measured]:
    ended, succeeded = figures.run_ended_at, figures.run_succeeded_at
    yield _of_export(
        "last_run_end_timestamp_seconds", _SECONDS, f"End of the last run of export_job, {_TIME}.", _moment(ended), own
    )
    yield _of_export(
        "last_run_success",
        _ONE,
        "1 if the last run of export_job succeeded, otherwise 0. A run whose process was killed does not count.",
        None if ended is None else ended == succeeded,
        own,
    )
    yield _of_export(
        "last_successful_run_end_timestamp_seconds",
        _SECONDS,
        f"End of the last run of export_job that succeeded, {_TIME}.",
        _moment(succeeded),
        own,
    )
    yield _of_export(
        "source_listed_timestamp_seconds",
        _SECONDS,
        f"Start of the last listing that reached the end of the source, {_TIME}. Files that arrived later may not be "
        "known yet, and are in no backlog.",
        _moment(figures.listed_at),
        own,
    )
    yield _of_export(
        "source_more_to_list",
        _ONE,
        "1 if the last listing stopped at max_files, so that more files wait to be listed, otherwise 0.",
        figures.more_to_list,
        own,
    )
    yield _of_export(
        "unreadable_files",
        _FILES,
        "Files that could not be read so far and are retried.",
        figures.unreadable_files,
        own,
    )


def _of_subscribers(figures: ExportFigures, own: dict[str, str]) -> Iterator[Measured]:
    labels = {one.name: own | {"subscriber": one.name} for one in figures.subscribers}
    for gauge in _GAUGES:
        values = [(one.name, gauge.value(one)) for one in figures.subscribers]
        samples = tuple(MetricSample(float(value), labels[name]) for name, value in values if value is not None)
        yield Measured(f"{PREFIX}{gauge.name}", "gauge", gauge.unit, gauge.help, samples)
    for name in Counters.__slots__:
        unit, text = _COUNTERS[name]
        samples = tuple(
            MetricSample(float(getattr(one.counters, name)), labels[one.name], since=one.counted_since)
            for one in figures.subscribers
        )
        yield Measured(f"{PREFIX}{name}", "counter", unit, text, samples)


def _records(figures: ExportFigures, own: dict[str, str]) -> Measured:
    return Measured(
        f"{PREFIX}quarantined_records",
        "gauge",
        "{record}",
        "Records in the quarantine by kind (malformed, unreadable, refused by a subscriber) and state "
        "(kept, retried, dismissed, resolved).",
        tuple(
            MetricSample(float(number), own | {"kind": _KINDS[kind], "state": state, "subscriber": name})
            for (kind, name, state), number in figures.records.items()
        ),
    )


def _of_export(name: str, unit: str, text: str, value: float | None, own: dict[str, str]) -> Measured:
    samples = () if value is None else (MetricSample(float(value), own),)
    return Measured(f"{PREFIX}{name}", "gauge", unit, text, samples)


def _moment(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
