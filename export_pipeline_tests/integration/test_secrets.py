"""A planted secret appears nowhere: event log, compute logs, Dagster's storage, GraphQL's answers, printed text."""

from pathlib import Path
from typing import Any

import pytest

from export_pipeline.secrets import scrub
from export_pipeline_tests.integration.dagster_dev import SELECTOR, dagster_dev
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.servers.receiver import Receiver

SECRET = "pl4nted+s3cret/with=odd%chars"
WEBHOOK_SECRET = "whsec_cGxhbnRlZC13ZWJob29rLXNlY3JldC0wMTIzNDU2Nzg5"

RESOURCES = """query ($s: RepositorySelector!) { allTopLevelResourceDetailsOrError(repositorySelector: $s) { __typename
  ... on ResourceDetailsList { results { name description resourceType
    configFields { name description defaultValueAsJson }
    configuredValues { key value type } } } } }"""
LAUNCHPAD = """query ($s: PipelineSelector!, $mode: String!) {
  runConfigSchemaOrError(selector: $s, mode: $mode) { __typename
    ... on RunConfigSchema { rootDefaultYaml allConfigTypes { key description
      ... on CompositeConfigType { fields { name description defaultValueAsJson } } } } } }"""
RUN_LOGS = """{ runsOrError { ... on Runs { results { runId status runConfigYaml tags { key value }
  eventConnection(limit: 1000) { events { __typename
    ... on MessageEvent { message }
    ... on ExecutionStepFailureEvent { error { message stack causes { message } }
      failureMetadata { description metadataEntries { label description
        ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr } } } } } } } } } }"""


@pytest.fixture
def planted(project: Project, received: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A deployment with secrets wherever one can stand, and subscribers that fail in ways that tempt to show them."""
    monkeypatch.setenv("PLANTED_SECRET", SECRET)
    monkeypatch.setenv("WEBHOOK_SECRET", WEBHOOK_SECRET)
    module = "export_pipeline_tests.integration.receivers"
    project.keep_what_is_printed()
    project.config["frequency"] = "0 0 1 1 *"
    project.config["staging"] = {"url": str(project.root / "staging"), **_keys()}
    project.config["subscribers"] = {
        "hook": {"type": "webhook", "url": "https://127.0.0.1:1/", "secret": {"env": "WEBHOOK_SECRET"}},
        "leak": {"type": "python", "function": f"{module}:leaking", "retry_for_seconds": 0},
        "cloud": {
            "type": "files",
            "url": "s3://some-bucket/x",
            "endpoint_url": "http://127.0.0.1:1",
            "max_attempts": 1,
            "retry_for_seconds": 0,
            **_keys(),
        },
    }
    project.config["subscribers"]["hook"]["retry_for_seconds"] = 0
    return project


def test_no_secret_in_any_log_store_or_answer(planted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """With secrets in the deployment and errors that hold them, no file, no answer of GraphQL and no log has them."""
    with Receiver("whsec_" + "b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldA==") as receiver:
        receiver.standing = Reply(401, f"bad signature, your key was {SECRET} {WEBHOOK_SECRET}".encode())
        planted.config["subscribers"]["hook"].update(url=f"{receiver.url}/hook?key=x", allow_http=True)
        planted.put_days("23")
        code, printed = planted.execute()
        assert code != 0
        assert any("401" in entry for entry in planted.last_log())
        with dagster_dev(planted) as dev:
            run_id = _launch(dev)
            dev.wait_for(
                lambda: [run for run in dev.runs() if run["runId"] == run_id and run["status"] == "FAILURE"],
                seconds=120,
            )
            resources = dev.ask(RESOURCES, s=SELECTOR)["allTopLevelResourceDetailsOrError"]
            dev.ask(LAUNCHPAD, s={**SELECTOR, "pipelineName": "export_job"}, mode="default")
            logs = dev.ask(RUN_LOGS)["runsOrError"]["results"]
        answers = "\n".join(dev.answers)
    # The places that were looked at hold what they should: otherwise their silence would prove nothing.
    values = {value["key"]: value for one in resources["results"] for value in one["configuredValues"]}
    assert values["secret"]["value"] == "WEBHOOK_SECRET"
    assert values["secret"]["type"] == "ENV_VAR"
    messages = str(logs)
    assert "bad signature, your key was [secret] [secret]" in messages
    assert "login with [secret] failed" in messages
    for place, text in {"printed": printed, "graphql": answers, **_files(planted.root)}.items():
        _assert_clean(place, text)


def test_no_secret_in_an_error_of_the_deployment_file(planted: Project) -> None:
    """A deployment file with a mistake beside a secret, or with a secret at a wrong place, shows none of it."""
    planted.config["subscribers"]["hook"]["timeout_seconds"] = SECRET
    planted.config["ledger"] = {"url": f"mysql://user:{SECRET}@host/db"}
    planted.config["subscribers"]["cloud"]["max_attempts"] = {"env": "PLANTED_SECRET"}
    code, printed = planted.execute()
    assert code != 0
    assert "subscribers.hook.timeout_seconds" in printed
    assert "ledger.url" in printed
    _assert_clean("printed", printed.replace(planted.deployment_path.read_text(), ""))


def _keys() -> dict[str, Any]:
    return {
        "aws_access_key_id": "AKIAPLANTED",
        "aws_secret_access_key": {"env": "PLANTED_SECRET"},
        "region_name": "us-east-1",
    }


def _launch(dev: Any) -> str:
    mutation = """mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
      ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
    found = dev.ask(mutation, p={"selector": {**SELECTOR, "jobName": "export_job"}, "mode": "default"})["launchRun"]
    assert found["__typename"] == "LaunchRunSuccess", found
    run_id: str = found["run"]["runId"]
    return run_id


def _files(root: Path) -> dict[str, str]:
    """Every file of the project but the deployment file: logs, Dagster's databases, ledger, staging, quarantine."""
    return {
        str(path.relative_to(root)): path.read_bytes().decode("utf-8", "replace")
        for path in root.rglob("*")
        if path.is_file() and path.name != "test.yaml"
    }


def _assert_clean(place: str, text: str) -> None:
    for secret in (SECRET, WEBHOOK_SECRET, WEBHOOK_SECRET.removeprefix("whsec_")):
        assert secret not in text, f"{place} holds a secret"
        assert scrub(text, [secret]) == text, f"{place} holds a secret in another spelling"
