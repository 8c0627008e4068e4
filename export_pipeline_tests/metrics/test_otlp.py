"""Metrics pushed to a receiver that speaks OTLP/HTTP."""

import logging
import time
from collections.abc import Iterator

import pytest

from export_pipeline.errors import MetricsNotPushed
from export_pipeline.metrics.catalogue import Measured
from export_pipeline.metrics.otlp import Collector
from export_pipeline_tests.metrics.conftest import SINCE
from export_pipeline_tests.servers.http import Reply, Silence
from export_pipeline_tests.servers.otlp import OtlpReceiver

CUMULATIVE = 2


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as server:
        yield server


def test_all_metrics_arrive_with_their_kind_unit_and_start(measured: list[Measured], receiver: OtlpReceiver) -> None:
    """Counters are cumulative sums that start where the ledger began to count; everything else is a gauge."""
    Collector(f"{receiver.url}/", 5, {"Authorization": "Bearer t0ken"}).push(measured, version="1.2.3")
    found = receiver.metrics()
    assert found.keys() == {one.name for one in measured}
    events = found["export_pipeline_delivered_events"]
    assert (events.unit, events.sum.is_monotonic, events.sum.aggregation_temporality) == ("{event}", True, CUMULATIVE)
    assert {point.start_time_unix_nano for point in events.sum.data_points} == {int(SINCE.timestamp()) * 10**9}
    assert receiver.value("export_pipeline_delivered_events", subscriber="crm") == 1_000
    assert receiver.value("export_pipeline_lag_seconds", subscriber="dwh") == 90.5
    assert found["export_pipeline_lag_seconds"].unit == "s"
    assert receiver.resource() == {"service.name": "export_pipeline", "service.version": "1.2.3"}
    assert receiver.requests[0].headers["authorization"] == "Bearer t0ken"


def test_the_standard_variables_apply(
    measured: list[Measured], receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an endpoint of its own a collector is the one that OpenTelemetry's variables name."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme,authorization=Basic%20c2VjcmV0")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "acme-export")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod")
    Collector(None, 5).push(measured, version="1")
    assert receiver.requests[0].headers["x-tenant"] == "acme"
    assert receiver.requests[0].headers["authorization"] == "Basic c2VjcmV0"
    assert receiver.resource()["service.name"] == "acme-export"
    assert receiver.resource()["deployment.environment"] == "prod"


def test_a_collector_that_refuses_is_an_error_without_secrets(
    measured: list[Measured],
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The status is named, no header is, and the exporter's own lines are in no log."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=planted-in-variable")
    receiver.standing = Reply(401, b"no: planted-token, planted-in-variable")
    with caplog.at_level(logging.DEBUG, "opentelemetry"), pytest.raises(MetricsNotPushed, match="401") as caught:
        Collector(receiver.url, 5, {"Authorization": "planted-token"}).push(measured, version="1")
    assert "planted" not in str(caught.value)
    assert caplog.records == []


def test_a_redirect_is_no_success(measured: list[Measured], receiver: OtlpReceiver) -> None:
    """An endpoint that only redirects, as http does where https is wanted, has not accepted anything."""
    receiver.standing = Reply(301, headers={"location": "https://127.0.0.1/v1/metrics"})
    with pytest.raises(MetricsNotPushed, match=r"^301 "):
        Collector(receiver.url, 5).push(measured, version="1")


def test_a_collector_that_is_down_is_named_soon(measured: list[Measured]) -> None:
    """A refused connection is an error within the timeout, with the reason of the system."""
    started = time.monotonic()
    with pytest.raises(MetricsNotPushed, match=r"^\[Errno 111\] Connection refused$"):
        Collector("http://127.0.0.1:9", 0.5).push(measured, version="1")
    assert time.monotonic() - started < 2


def test_a_collector_that_does_not_answer_holds_nobody(measured: list[Measured], receiver: OtlpReceiver) -> None:
    """A receiver that accepts the connection and stays silent costs no more than the timeout."""
    receiver.standing = Silence()
    started = time.monotonic()
    with pytest.raises(MetricsNotPushed, match="timed out"):
        Collector(receiver.url, 0.3).push(measured, version="1")
    assert time.monotonic() - started < 2


def test_an_invalid_setting_of_the_environment_is_an_error_of_the_push(
    measured: list[Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate file that does not exist fails the push, and not with an error of another kind."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
    with pytest.raises(MetricsNotPushed):
        Collector("https://127.0.0.1:9", 0.5).push(measured, version="1")
