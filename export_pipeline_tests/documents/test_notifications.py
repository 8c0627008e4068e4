"""What docs/notifications.md shows for AWS does what it says, as far as moto's server looks at it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.source.queue import NotificationQueue, check_queue
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import open_source
from export_pipeline_tests.documents.blocks import all_blocks
from export_pipeline_tests.servers.guarded import GuardedServer
from export_pipeline_tests.servers.s3 import moto_server

SHOWN = [json.loads(block.text) for block in all_blocks("json") if block.page == "notifications.md"]
REGION, BUCKET = "eu-west-1", "acme-analytics"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GuardedServer]:
    with moto_server(tmp_path) as server:
        yield GuardedServer(server)


@pytest.mark.thorough
def test_queue_bucket_and_policy_as_shown(guarded: GuardedServer) -> None:
    """With queue, notification and policy of the page a run may list, read, take and remove messages."""
    import boto3

    attributes, notification, policy = SHOWN
    options = {**guarded.server.options, "region_name": REGION}
    sqs: Any = boto3.session.Session().client("sqs", **options)
    sqs.create_queue(QueueName="acme-events-dead")
    url = sqs.create_queue(QueueName="acme-events", Attributes=attributes)["QueueUrl"]
    s3: Any = boto3.session.Session().client("s3", **options)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=notification)
    s3.put_object(Bucket=BUCKET, Key="events/2026/11/23/a", Body=b"{}")
    s3.put_object(Bucket=BUCKET, Key="elsewhere/2026/11/23/b", Body=b"{}")
    login = guarded.login(policy)
    guarded.enforce(True)
    settings = SourceSettings.model_validate(
        {"url": f"s3://{BUCKET}/events/", **options, **login, "notifications": {"queue_url": url}}
    )
    said = check_queue(settings)
    assert f"{BUCKET} sends to it" in said
    assert "malformed messages go to acme-events-dead" in said
    queue, source = NotificationQueue(settings), open_source(settings)
    messages, _ = queue.receive(10)
    told = [json.loads(message.body) for message in messages]
    keys = [record["s3"]["object"]["key"] for one in told for record in one.get("Records", [])]
    assert keys == ["events%2F2026%2F11%2F23%2Fa"]
    assert queue.delete(messages) == 0
    (file,) = source.list_files()
    assert source.find_file(file.key) == file
    assert b"".join(source.read_chunks(file)) == b"{}"
    queue.close()
    source.close()
