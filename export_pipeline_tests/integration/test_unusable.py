"""A subscriber whose variable is missing, or has a value that cannot be used, stops itself and nobody else."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from export_pipeline.deployment import load_deployment
from export_pipeline.errors import ConfigurationError
from export_pipeline.orchestration.build import definitions_of
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.receiver import Receiver

pytestmark = pytest.mark.usefixtures("one_event_log")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET) as running:
        yield running


@pytest.fixture
def hooked(project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Beside ``copy``, a webhook whose address and secret are in the variables HOOK_URL and HOOK_SECRET."""
    monkeypatch.setenv("HOOK_URL", receiver.url)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    options: dict[str, Any] = {"retry_for_seconds": 0, "secret": {"env": "HOOK_SECRET"}}
    project.config["subscribers"]["hook"] = {"type": "webhook", "url": {"env": "HOOK_URL"}, **options}
    return project


@pytest.mark.parametrize(
    "wrong",
    [
        ("HOOK_SECRET", None, "the environment variable HOOK_SECRET is not set"),
        # At night: other reasons why a subscriber cannot be made.
        pytest.param(
            ("HOOK_URL", "", "the environment variable HOOK_URL is empty"), id="empty", marks=pytest.mark.thorough
        ),
        pytest.param(
            ("HOOK_URL", "ftp://nowhere.example.com", "the environment variable HOOK_URL: "),
            id="wrong",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_only_its_own_deliveries_fail_and_wait(
    hooked: Project,
    monkeypatch: pytest.MonkeyPatch,
    wrong: tuple[str, str | None, str],
) -> None:
    """The others get all; its own deliveries fail and wait, each run says why without the variable's value, and once
    that is right it gets all of it.
    """
    variable, value, text = wrong
    right = os.environ[variable]
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    lines = hooked.put_days("22", "23")
    run = hooked.run()
    assert not run.success
    assert hooked.copied() == lines
    assert hooked.states("hook") == ["owed", "owed"]
    assert {step.partition("[")[0] for step in run.failures} == {"deliver_to_hook"}
    assert text in min(run.failures.values())
    (told,) = run.messages("error")
    assert told.startswith("hook: not delivering, everything stays owed: ")
    assert text in told
    assert not value or value not in str(run.entries)
    # Where nothing is owed to anybody else it is said all the same.
    assert hooked.run().messages("error") == [told]
    monkeypatch.setenv(variable, right)
    assert hooked.run().success
    assert hooked.states("hook") == ["delivered", "delivered"]


def test_what_the_whole_deployment_needs_stops_all(hooked: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing variable of a place, or anything else wrong with a subscriber, keeps the definitions from loading."""
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    monkeypatch.delenv("LEDGER_URL", raising=False)

    def problems(**more: Any) -> str:
        hooked.config.update(more)
        with pytest.raises(ConfigurationError) as raised:
            load_deployment(str(hooked.deployment_path), without_variables=True)
        return str(raised.value)

    assert "ledger.url: the environment variable LEDGER_URL is not set" in problems(
        ledger={"url": {"env": "LEDGER_URL"}}
    )
    hooked.config["subscribers"]["hook"]["secrets"] = "x"
    told = problems(ledger={"url": str(hooked.root / "ledger.db")})
    assert "subscribers.hook.secrets: unknown key (did you mean secret?)" in told


def test_an_alert_without_its_address_stops_only_itself(hooked: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Definitions load without the variable of an alert's address; the sensor's ticks say that it is missing."""
    monkeypatch.delenv("ALERT_URL", raising=False)
    hooked.config["alerts"] = [{"to": {"env": "ALERT_URL"}}]
    deployment = load_deployment(str(hooked.deployment_path), without_variables=True)
    assert definitions_of(deployment).resolve_sensor_def("alerts").name == "alerts"
    with pytest.raises(ConfigurationError, match="the environment variable ALERT_URL is not set"):
        load_deployment(str(hooked.deployment_path))


def test_the_resource_says_what_is_missing(hooked: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's page of the resource shows which variable is missing."""
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    deployment = load_deployment(str(hooked.deployment_path), without_variables=True)
    resource: Any = (definitions_of(deployment).resources or {})["hook"]
    assert resource.reason == "the environment variable HOOK_SECRET is not set (option secret)"
