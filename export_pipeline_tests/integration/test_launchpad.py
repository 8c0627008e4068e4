"""What Dagster's Launchpad opens with can be launched as it is."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap
from dagster_shared.yaml_utils import load_run_config_yaml

from export_pipeline_tests.integration.project import Project, Run
from export_pipeline_tests.servers.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_b2xkLXNlY3JldC1vbGQtc2VjcmV0"
MASK = "********"


def all_defaults(project: Project, job: str = "export_job") -> Any:
    """The config that the Launchpad's button "Scaffold all default config" writes."""
    snapshot = project.job(job).get_job_snapshot()
    schema = snapshot.config_schema_snapshot
    root = snapshot.mode_def_snaps[0].root_config_key
    assert root is not None
    return yaml.safe_load(default_values_yaml_from_type_snap(schema, schema.get_config_snap(root)))


def launch(project: Project, job: str, config: Any, *, day: str | None = None) -> Run:
    """Launch *job* with exactly *config*, as Dagster reads it when it is given as text."""
    return project.run(job, run_config=load_run_config_yaml(yaml.safe_dump(config)), partition=day)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET) as running:
        yield running


def webhook(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": receiver.url, "retry_for_seconds": 0, "secret": {"env": "HOOK_SECRET"}, **more}


@pytest.mark.parametrize("job", ["export_job", "backfill_job"])
def test_all_defaults_are_launched_as_they_are(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    """All default config, sent back unchanged, signs with the secret of the deployment and delivers every event."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    project.config["subscribers"]["hook"] = webhook(receiver)
    lines = project.put_days("23")
    config = all_defaults(project, job)
    assert config["resources"]["hook"]["config"]["secret"] == {"env": "HOOK_SECRET"}
    assert MASK not in str(config)
    run = launch(project, job, config, day="2026-11-23" if job == "backfill_job" else None)
    assert run.success, run.failures
    assert receiver.events() == lines
    assert project.copied() == lines


def fields(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and field of everything that may be configured."""
    for name, field in getattr(schema, "fields", {}).items():
        yield f"{path}{name}", field
        yield from fields(field.config_type, f"{path}{name}.")


@pytest.mark.parametrize("job", ["export_job", "backfill_job", "check_job"])
def test_every_field_is_described(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    """The pane beside the editor tells of every op, resource and option what it is."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    project.config["source"] = {"url": "s3://bucket/events"}
    project.config["subscribers"]["hook"] = webhook(receiver)
    found = project.job(job)
    ours = [
        (path, field)
        for path, field in fields(found.run_config_schema.config_type)
        if path.startswith(("ops.", "resources.")) and not path.endswith(".config") and path.count(".") > 1
    ]
    assert {path.split(".")[0] for path, _ in ours} == {"ops", "resources"}
    assert [path for path, field in ours if not field.description and not path.startswith("resources.io_manager")] == []
    assert [op.name for op in found.all_node_defs if not op.description] == []
    if job != "check_job":
        resources = found.resource_defs.items()
        assert [name for name, resource in resources if not resource.description] == []


@pytest.mark.parametrize("job", ["export_job", "backfill_job"])
def test_what_it_opens_with_is_launched_as_it_is(project: Project, job: str) -> None:
    """The Launchpad opens with the op's options that a user may want to change, and they run unchanged; that of a day
    opens with none, because they would replace the config that a backfill is launched with.
    """
    lines = project.put_days("23")
    found = project.job(job)
    by_day = found.partitioned_config
    preset = by_day.get_run_config_for_partition_key("2026-11-23") if by_day else found.run_config
    expected = {"export_job": {"ops": {"list_new_files": {"config": {"max_files": 100}}}}, "backfill_job": {}}
    assert preset == expected[job]
    run = launch(project, job, preset, day="2026-11-23" if job == "backfill_job" else None)
    assert run.success, run.failures
    assert project.copied() == lines


def test_a_secret_written_into_the_file_is_hidden_and_its_mask_refused(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A literal secret shows as a mask; a run that is sent the mask fails before it sends anything, and says why."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    project.config["subscribers"] = {"hook": webhook(receiver, previous_secret=OLD_SECRET)}
    project.put_days("23")
    config = all_defaults(project)
    assert config["resources"]["hook"]["config"]["previous_secret"] == MASK
    assert OLD_SECRET not in str(config)
    run = launch(project, "export_job", config)
    assert not run.success
    told = str([run.failures, run.log, run.entries])
    assert "remove it from the run's config" in told
    assert OLD_SECRET not in told
    assert receiver.requests == []


def test_no_literal_secret_is_shown(project: Project) -> None:
    """AWS keys, and passwords in URLs, that were written into the file do not show."""
    project.config["source"] = {
        "url": "s3://bucket/events",
        "aws_access_key_id": "AKIAL1TERAL",
        "aws_secret_access_key": "l1teral-key",
    }
    project.config["ledger"] = {"url": "postgresql://export:l1teral-password@db.example.com/export"}
    project.config["subscribers"] = {"hook": {"type": "webhook", "url": "https://me:l1teral-login@example.com/"}}
    config = all_defaults(project)
    assert config["resources"]["source"]["config"]["url"] == "s3://bucket/events"
    assert config["resources"]["source"]["config"]["aws_access_key_id"] == MASK
    assert config["resources"]["ledger"]["config"]["url"] == MASK
    assert "l1teral" not in str(config).lower()
