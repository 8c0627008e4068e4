"""Send every event to an SQS queue (SendMessageBatch)."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.aws import PASSING, REFUSING, UNANSWERED, AwsSubscriber, Path
from export_pipeline.subscribers.packing import Packed

MAX_GROUP_CHARACTERS = 128
# What SQS accepts as the name of a message group: ASCII letters, digits and punctuation.
_GROUP = re.compile(r"[!-~]+")


class Sqs(AwsSubscriber):
    """Sends each event to a queue as one message; messages that SQS did not accept are sent again, alone.

    A FIFO queue (its name ends in .fifo) gets the event's hash as deduplication id, and ignores repeats within five
    minutes. A standard queue does not deduplicate; each message has the attribute ``event_id``, the same hash.
    """

    service: ClassVar[str] = "sqs"
    separator_bytes: ClassVar[int] = 96  # name, type and value of the attribute count too
    queue_url: str = Field(
        description="URL of the queue.", examples=["https://sqs.eu-central-1.amazonaws.com/123456789012/events.fifo"]
    )
    message_group: str | None = Field(
        default=None,
        description="For a FIFO queue: path to the message group in an event; messages of one group keep their order, "
        "except those that SQS does not accept at first. By default all are in one group.",
        examples=["endpoint.Id"],
    )
    max_request_events: int = Field(default=10, ge=1, le=10, description="Maximum number of messages per request.")
    max_request_bytes: int = Field(
        default=1_048_576, ge=1, le=1_048_576, description="Maximum request size in bytes, attributes included."
    )
    max_event_bytes: int = Field(
        default=1_048_480,
        ge=1,
        le=1_048_480,
        description="Maximum message size in bytes, without the 96 bytes of its attribute; a larger one goes to the "
        "quarantine. A queue with a lower MaximumMessageSize refuses messages itself.",
    )
    _group: Path | None = PrivateAttr(default=None)

    @field_validator("message_group")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        return Path.check(value)

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event, unchanged."""
        return (event,)

    def post(self, request: Packed) -> Receipt:
        """Send one request; the receipt names the messages to send again, and those that SQS can never accept."""
        entries = [self._entry(number, item) for number, item in enumerate(request.items)]
        answer = self.call(lambda client: client.send_message_batch(QueueUrl=self.queue_url, Entries=entries))
        taken = {int(one["Id"]) for one in answer.get("Successful", [])}
        refused: dict[int, str] = {}
        later = {number: UNANSWERED for number in range(len(entries)) if number not in taken}
        for one in answer.get("Failed", []):
            number, code = int(one["Id"]), one["Code"].rpartition(".")[2]
            reason = f"{one['Code']}: {one.get('Message', '')}"
            if one.get("SenderFault") and code not in PASSING:
                if code not in REFUSING:  # a missing permission or key: the messages are not the cause
                    raise Blocked(f"{self.service}: {reason}")
                refused[number] = reason
                later.pop(number, None)
            else:
                later[number] = reason
        return Receipt(refused=refused, later=later)

    def check(self) -> None:
        """Request the queue's ARN."""
        self.ask(lambda client: client.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["QueueArn"]))

    def _entry(self, number: int, item: bytes) -> dict[str, Any]:
        event_id = hashlib.sha256(item).hexdigest()
        entry: dict[str, Any] = {
            "Id": str(number),
            "MessageBody": item.decode(),
            "MessageAttributes": {"event_id": {"DataType": "String", "StringValue": event_id}},
        }
        if self.queue_url.endswith(".fifo"):
            if self._group is None:
                self._group = Path(self.message_group)
            group = (
                self._group.of(item, allowed=_GROUP, max_characters=MAX_GROUP_CHARACTERS)
                if self.message_group
                else "events"
            )
            entry |= {"MessageDeduplicationId": event_id, "MessageGroupId": group}
        return entry
