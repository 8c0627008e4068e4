"""Takes metrics over OTLP/HTTP, as an OpenTelemetry collector does."""

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

from export_pipeline_tests.servers.http import Reply, Request, Server


class OtlpReceiver(Server):
    """Takes every request.

    Attributes:
        received: the requests, decoded, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: list[ExportMetricsServiceRequest] = []

    def answer(self, request: Request) -> Reply:
        if request.path != "/v1/metrics" or request.headers["content-type"] != "application/x-protobuf":
            return Reply(404)
        self.received.append(ExportMetricsServiceRequest.FromString(request.body))
        return Reply(200, ExportMetricsServiceResponse().SerializeToString())

    def metrics(self) -> dict[str, Metric]:
        """The metrics of the latest request, by name."""
        (resource,) = self.received[-1].resource_metrics
        return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}

    def resource(self) -> dict[str, str]:
        """The attributes of the latest request's resource."""
        (resource,) = self.received[-1].resource_metrics
        return {one.key: one.value.string_value for one in resource.resource.attributes}

    def value(self, name: str, **labels: str) -> float:
        """The value of a metric with these labels, the deployment aside."""
        metric = self.metrics()[name]
        points = metric.sum.data_points if metric.HasField("sum") else metric.gauge.data_points
        (found,) = [float(one.as_double) for one in points if _labels(one) == labels]
        return found


def _labels(point: NumberDataPoint) -> dict[str, str]:
    return {one.key: one.value.string_value for one in point.attributes if one.key != "deployment"}
