"""``metrics:`` in a deployment file."""

import importlib.util

import pytest

from export_pipeline.cli.outline import load_outline
from export_pipeline_tests.configuration.conftest import Load, Problems

HEAD = """
source:
  url: bucket
metrics:
  otlp:
"""


def test_without_it_nothing_is_pushed(load: Load) -> None:
    """By default, whatever variables of OpenTelemetry are set, there is no collector."""
    assert load("source: {url: bucket}").metrics.otlp is None


def test_a_collector_that_variables_name(load: Load) -> None:
    """An empty mapping leaves the endpoint to OpenTelemetry's variables."""
    otlp = load("source: {url: bucket}\nmetrics: {otlp: {}}").metrics.otlp
    assert otlp is not None
    assert (otlp.endpoint, otlp.headers, otlp.timeout_seconds) == (None, {}, 2)


def test_headers_are_secrets(load: Load) -> None:
    """A header's value is one of the deployment's secrets, from a variable or written in the file."""
    text = HEAD + "    headers: {authorization: {env: TOKEN}, x-key: written-key}\n"
    deployment = load(text, {"TOKEN": "planted-token"})
    assert {"planted-token", "written-key"} <= deployment.secret_values()
    assert deployment.metrics.otlp is not None
    assert deployment.metrics.otlp.headers == {"authorization": "planted-token", "x-key": "written-key"}
    assert "planted" not in repr(deployment)
    assert {"planted-token", "written-key"} <= load_outline("x.yaml", {"TOKEN": "planted-token"}).secrets


def test_an_invalid_header_is_not_shown(problems: Problems) -> None:
    """The value of a header that is no text is reported without it."""
    (problem,) = problems(HEAD + "    headers: {authorization: [planted-token]}\n")
    assert problem.startswith("x.yaml:5: metrics.otlp.headers")
    assert "planted" not in problem


@pytest.mark.parametrize("endpoint", ["collector:4317", "grpc://collector:4317", "https://user:secret@collector"])
def test_an_endpoint_is_a_web_address(endpoint: str, problems: Problems) -> None:
    """A receiver of OTLP over gRPC, or a password in the address, is an error with its line."""
    (problem,) = problems(HEAD + f"    endpoint: {endpoint}\n")
    assert problem.startswith("x.yaml:5: metrics.otlp.endpoint: found ")
    assert problem.endswith("; allowed: https://host or http://host, optionally with port and path")


def test_without_the_extra_the_command_to_install_it_is_named(
    problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where OpenTelemetry's exporter is missing, the error says what to install."""

    def none_of_opentelemetry(name: str, package: str | None = None) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", none_of_opentelemetry)
    (problem,) = problems("source: {url: bucket}\nmetrics:\n  otlp: {}\n")
    assert problem == (
        "x.yaml:3: metrics.otlp: metrics over OTLP need OpenTelemetry's exporter, which is not installed: pip install "
        '"export-pipeline[otlp]"'
    )
