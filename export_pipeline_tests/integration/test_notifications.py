"""The export of a bucket that tells a queue of its files: S3 and SQS over the wire, messages as moto sends them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from export_pipeline_tests.cli.conftest import cli
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.test_s3 import in_s3
from export_pipeline_tests.servers.aws import start_moto
from export_pipeline_tests.servers.queues import ServerQueue, let_visibility_pass, new_queue, notify
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from export_pipeline_tests.source.messages import of_sns

pytestmark = pytest.mark.usefixtures("one_event_log")

__all__ = ["cli"]

LIST_NOW = {"list_new_files": {"config": {"listing": "now"}}}


class Site:
    """A project whose bucket tells a queue of what lands below ``raw/``."""

    def __init__(self, project: Project, server: S3Server) -> None:
        self.project = project
        self.server = server
        self.bucket = server.new_bucket()
        self.queue = new_queue(server)
        notify(server, self.bucket, self.queue, prefix="raw/")
        self.use(self.queue)

    def use(self, queue: ServerQueue) -> None:
        told = {"queue_url": queue.url}
        self.project.config["source"] = in_s3(self.server, f"s3://{self.bucket}/raw/", notifications=told)

    def put(self, *keys: str) -> list[bytes]:
        lines = [json.dumps({"key": key}).encode() for key in keys]
        self.server.put(self.bucket, {f"raw/{key}": line for key, line in zip(keys, lines, strict=True)})
        return lines


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """A server in this process, so that a test can let time pass in it."""
    running, url = start_moto()
    yield S3Server(url)
    running.stop()


@pytest.fixture
def site(project: Project, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("TEST_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEST_SECRET_KEY", SECRET_KEY)
    return Site(project, server)


def test_files_come_by_messages(site: Site) -> None:
    """The first run lists; later ones find files by their messages alone, whatever is in a key, and list no more."""
    lines = site.put("2026/11/22/10/before the queue")
    first = site.project.run()
    assert first.success
    assert first.messages("info")[0].endswith("because it was never listed to its end")
    lines += site.put("2026/11/23/10/part 1+é%2F&.gz", "2026/11/22/09/late")
    second = site.project.run()
    assert "received 2 messages: 2 new files" in second.messages("info")
    assert not [message for message in second.messages("info") if "was listed" in message]
    assert sorted(site.project.copied()) == sorted(lines)
    nothing = site.project.run()
    assert nothing.messages("warning") == []
    (line,) = [one for one in nothing.messages("info") if not one.startswith("this run: ")]
    assert line.startswith("found no new file: the queue announced none, and the next listing is due at 20")
    assert site.queue.left() == 0
    assert site.project.cursor() == "2026/11/22/10/before the queue"
    assert site.project.imbalances() == []


@pytest.mark.thorough
def test_the_launchpad_can_ask_for_a_listing(site: Site) -> None:
    """A file whose message is lost is found at once by a run launched with listing: now, and only by that."""
    site.project.run()
    site.put("2026/11/23/10/lost")
    site.queue.client.purge_queue(QueueUrl=site.queue.url)
    (quiet,) = site.project.run().messages("info")
    assert quiet.startswith("found no new file: the queue announced none, and the next listing is due at ")
    assert site.project.copied() == []
    asked = site.project.run(config=LIST_NOW)
    assert "listed the source in addition to its queue, because it was requested" in asked.messages("info")
    assert len(site.project.copied()) == 1


@pytest.mark.thorough
def test_a_backfill_and_messages_do_not_meet_twice(site: Site) -> None:
    """What a backfill delivered is known when its message is taken, and a message's file when a backfill lists it."""
    site.project.run()
    lines = site.put("2026/11/22/10/a", "2026/11/23/10/b")
    assert site.project.run("backfill_job", partition="2026-11-22").success
    assert "received 2 messages: 1 new file, 1 file already known" in site.project.run().messages("info")
    assert site.project.run("backfill_job", partition="2026-11-23").success
    assert sorted(site.project.copied()) == sorted(lines)


@pytest.mark.thorough
def test_messages_through_a_topic(site: Site) -> None:
    """The queue may be subscribed to SNS, with or without raw delivery; S3's own test message may come the same way."""
    import boto3

    sns: Any = boto3.session.Session().client("sns", **site.server.options)
    topic = sns.create_topic(Name="uploads")["TopicArn"]
    for raw in ("true", "false"):
        queue = new_queue(site.server)
        subscribed = sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, Attributes={"RawMessageDelivery": raw}
        )
        told: Any = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
        site.server.client().put_bucket_notification_configuration(Bucket=site.bucket, NotificationConfiguration=told)
        site.use(queue)
        site.put(f"2026/11/23/10/{raw}")
        site.project.run()
        assert queue.left() == 0
        assert len(site.project.copied()) == {"true": 1, "false": 2}[raw]
        sns.unsubscribe(SubscriptionArn=subscribed["SubscriptionArn"])


@pytest.mark.thorough
def test_a_poisonous_message_goes_to_the_dead_letters(site: Site) -> None:
    """It appears in two runs as an error, which fails none of them, then is in the dead-letter queue."""
    dead = new_queue(site.server)
    site.use(queue := new_queue(site.server, dead_letters=dead, most_receives=2))
    queue.send("poison", of_sns("more poison"))
    errors = []
    for _ in range(3):
        run = site.project.run()
        assert run.success
        errors.append(len(run.messages("error")))
        let_visibility_pass(queue)
    assert errors == [1, 1, 0]
    assert (queue.left(), dead.left()) == (0, 2)


@pytest.mark.thorough
def test_a_poisonous_message_without_dead_letters(site: Site) -> None:
    """It is quarantined, told as an error with its reason, and gone from the queue."""
    site.queue.send("poison")
    (error,) = site.project.run().messages("error")
    assert "1 invalid message (quarantined under notifications/" in error
    assert "it is not a JSON object" in error
    assert site.queue.left() == 0
    assert len(list((site.project.root / "quarantine" / "notifications").iterdir())) == 1


@pytest.mark.thorough
def test_a_queue_that_is_not_there_fails_the_run(site: Site) -> None:
    """The run fails with the queue's URL and the cause, and no secret; what was found by listing stays planned."""
    told = {"queue_url": site.queue.url + "-gone"}
    site.project.config["source"]["notifications"] = told
    site.put("2026/11/23/10/a")
    run = site.project.run()
    assert not run.success
    (reason,) = run.failures.values()
    assert f"the queue {told['queue_url']} failed" in reason
    assert SECRET_KEY not in reason
    site.use(site.queue)
    assert site.project.run().success
    assert len(site.project.copied()) == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    "moment", ["plan:before:1", "plan:after:1", "remove_messages:before:1", "remove_messages:after:1"]
)
def test_a_run_killed_at_any_moment_loses_and_repeats_nothing(site: Site, received: Path, moment: str) -> None:
    """Killed before the commit, or between commit and removal, messages come again, and each event arrives once."""
    project = site.project
    project.config["subscribers"] = {
        "crm": {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm"}
    }
    project.run()
    lines = site.put("2026/11/23/10/a", "2026/11/23/10/b")
    project.kill_job_at(moment)
    assert site.queue.left() == (0 if moment == "remove_messages:after:1" else 2)
    let_visibility_pass(site.queue)
    assert project.run().success
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert site.queue.left() == 0
    assert project.imbalances() == []


def test_check_tells_of_the_queue(site: Site, cli: Any) -> None:
    """`export-pipeline check` has a line for the queue; where it cannot be read, that fails with what to do."""
    done = cli("check", "--json")
    found = {one["name"]: one for one in done.json()}
    assert done.code == 0, done.err
    assert f"{site.bucket} sends to it" in found["notifications"]["detail"]
    site.project.config["source"]["notifications"]["queue_url"] += "-gone"
    done = cli("check", "--json")
    found = {one["name"]: one for one in done.json()}
    assert done.code == 1
    assert "failed" in found["notifications"]["detail"]
    assert "docs/notifications.md" in found["notifications"]["advice"]


@pytest.mark.thorough
def test_why_tells_of_messages(site: Site, cli: Any) -> None:
    """`export-pipeline why` of a file that no run has found says that its message was not taken yet."""
    site.project.run()
    site.put("2026/11/23/10/a")
    assert "no run has received its message yet" in cli("why", "2026/11/23/10/a").out.replace("\n", " ")
