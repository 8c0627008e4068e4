"""Queues of moto's server, with what S3 needs to send to them."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from export_pipeline_tests.servers.s3 import REGION, S3Server


@dataclass(frozen=True)
class ServerQueue:
    """A queue, and a client of SQS that is logged in as the server's owner."""

    client: Any
    url: str
    arn: str

    def send(self, *bodies: str) -> None:
        """Put messages with these bodies into the queue."""
        for body in bodies:
            self.client.send_message(QueueUrl=self.url, MessageBody=body)

    def left(self) -> int:
        """How many messages there are, including those received and not deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


def new_queue(server: S3Server, *, dead_letters: ServerQueue | None = None, most_receives: int = 2) -> ServerQueue:
    """Make a queue; what is received more often than *most_receives* goes to *dead_letters*."""
    import boto3

    client: Any = boto3.session.Session().client("sqs", **server.options)
    attributes = {}
    if dead_letters is not None:
        policy = {"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": str(most_receives)}
        attributes["RedrivePolicy"] = json.dumps(policy)
    url = client.create_queue(QueueName=f"queue-{uuid4().hex[:12]}", Attributes=attributes)["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return ServerQueue(client, url, arn)


MADE, REMOVED = "s3:ObjectCreated:*", "s3:ObjectRemoved:*"


def notify(
    server: S3Server,
    bucket: str,
    queue: ServerQueue,
    *,
    prefix: str = "",
    suffix: str = "",
    events: tuple[str, ...] = (MADE, REMOVED),
) -> None:
    """Let S3 send a message to *queue* for each object that is made or removed, of keys that begin and end so."""
    rules = [{"Name": name, "Value": value} for name, value in (("prefix", prefix), ("suffix", suffix)) if value]
    told: Any = {
        "QueueArn": queue.arn,
        "Events": list(events),
        **({"Filter": {"Key": {"FilterRules": rules}}} if rules else {}),
    }
    server.client().put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [told]}
    )


def let_visibility_pass(queue: ServerQueue) -> None:
    """Make received messages visible again, as time would: of a server inside this process."""
    from moto.sqs.models import sqs_backends

    account, name = queue.arn.split(":")[-2:]
    for message in sqs_backends[account][REGION].get_queue(name)._messages:
        message.visible_at = 0.0
