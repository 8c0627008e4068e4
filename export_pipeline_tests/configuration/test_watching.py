"""Alerts, checks and owners in a deployment file."""

import importlib.util
import sys

import pytest

from export_pipeline.secrets import EnvRef
from export_pipeline_tests.configuration.conftest import Load, Problems

SECRET = "slack://planted/secret/token"


def test_nothing_is_watched_by_default(load: Load) -> None:
    """Without these keys there are no alerts, no owners, and the checks' schedule is off."""
    deployment = load("source: {url: here}")
    assert (deployment.alerts, deployment.owners, deployment.max_lag_minutes, deployment.ui_url) == ([], [], None, None)
    checks = deployment.checks
    assert (checks.enabled, checks.frequency, checks.days, checks.repair) == (False, "daily", 7, False)


def test_all_of_it_is_read(load: Load) -> None:
    """Everything that can be said is read as it is written, and an address stays the name of its variable."""
    deployment = load(
        """
        source: {url: here}
        owners: [team:data, ann@example.com]
        max_lag_minutes: 90
        ui_url: https://dagster.example.com/prod/
        alerts:
          - to: {env: CHAT}
          - {to: {env: MAIL}, level: warning, only_runs: true, repeat_after_minutes: 5}
        checks: {enabled: true, frequency: 30 5 * * *, days: 3, repair: true}
        """,
        {"CHAT": SECRET, "MAIL": "mailtos://user:password@example.com"},
    )
    assert deployment.owners == ["team:data", "ann@example.com"]
    assert (deployment.max_lag_minutes, deployment.ui_url) == (90, "https://dagster.example.com/prod")
    chat, mail = deployment.alerts
    assert (chat.to, chat.level, chat.only_runs, chat.repeat_after_minutes) == (EnvRef(env="CHAT"), "error", False, 240)
    assert (mail.to, mail.level, mail.only_runs, mail.repeat_after_minutes) == (EnvRef(env="MAIL"), "warning", True, 5)
    assert deployment.checks.frequency == "30 5 * * *"
    assert deployment.checks.repair is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owners: [somebody]", "owners[0]: found the text 'somebody'; allowed: an e-mail address, or team:name"),
        ("ui_url: dagster", "ui_url: found the text 'dagster'; allowed: https://host or http://host"),
        ("max_lag_minutes: 0", "max_lag_minutes: found the number 0; allowed: at least 1"),
        ("alerts: {to: x}", "alerts: found a mapping; allowed: a list"),
        ("alerts: [{level: loud, to: {env: CHAT}}]", "alerts[0].level: found the text 'loud'; allowed: 'info', 'w"),
        ("alerts: [{level: info}]", "alerts[0]: found a mapping; allowed: exactly one of to and heartbeat"),
        ("alerts: [{to: {env: CHAT}, levle: info}]", "alerts[0].levle: unknown key (did you mean level?)"),
        ("alerts: [{to: {env: NOBODY}}]", "alerts[0].to: the environment variable NOBODY is not set"),
        ("checks: {frequency: often}", "checks.frequency: found the text 'often'; allowed: one of ten_minutes"),
        ("checks: {days: 0}", "checks.days: found the number 0; allowed: at least 1"),
    ],
)
def test_a_wrong_value(problems: Problems, text: str, expected: str) -> None:
    """Each error is reported with its place, what was found and what is allowed."""
    (line,) = problems(f"source: {{url: here}}\n{text}", {"CHAT": SECRET})
    assert expected in line


@pytest.mark.parametrize("to", ["{env: CHAT}", "planted-secret"])
def test_an_address_that_is_none_is_not_shown(problems: Problems, to: str) -> None:
    """What stands where an address belongs may be a secret, so an error tells its length at most."""
    (line,) = problems(f"source: {{url: here}}\nalerts: [{{to: {to}}}]", {"CHAT": "planted-secret"})
    assert "alerts[0].to: found a text of 14 characters" in line
    assert "allowed: an apprise URL" in line
    assert "planted-secret" not in line


def test_addresses_are_secrets(load: Load) -> None:
    """Every address is known as a secret, whether the file names a variable or has it written out."""
    deployment = load(
        "source: {url: here}\nalerts: [{to: {env: CHAT}}, {to: 'json://user:pass@host'}]", {"CHAT": SECRET}
    )
    assert {SECRET, "json://user:pass@host"} <= deployment.secret_values()
    assert "planted" not in repr(deployment)
    assert "user:pass" not in repr(deployment)


def test_without_apprise_the_error_says_what_to_install(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    """If apprise is not installed, a file with alerts is refused with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (line,) = problems("source: {url: here}\nalerts: [{to: {env: CHAT}}]", {"CHAT": SECRET})
    assert 'alerts[0].to: alerts need apprise, which is not installed: pip install "export-pipeline[alerts]"' in line


def test_apprise_is_not_imported_to_check_a_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with alerts is checked without the time that importing apprise takes."""
    assert importlib.util.find_spec("apprise") is not None
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert load("source: {url: here}\nalerts: [{to: {env: CHAT}}]", {"CHAT": SECRET}).alerts
