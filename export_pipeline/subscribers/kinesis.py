"""Put every event into a Kinesis data stream (PutRecords)."""

import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.subscribers.aws import AwsSubscriber, Path, failed
from export_pipeline.subscribers.packing import Packed

MAX_KEY_CHARACTERS = 256
# Kinesis accepts any text that UTF-8 can encode.
_KEY = re.compile(r"[^\ud800-\udfff]+")


class Kinesis(AwsSubscriber):
    """Puts each event into a stream as one record; records that Kinesis did not accept are put again, alone.

    Kinesis does not deduplicate: after a crash a batch may be there twice. The event's bytes are unchanged, so its hash
    identifies duplicates.
    """

    service: ClassVar[str] = "kinesis"
    separator_bytes: ClassVar[int] = MAX_KEY_CHARACTERS  # the partition key counts too
    stream_name: str = Field(description="Name of the stream.")
    partition_key: str | None = Field(
        default=None,
        description="Path to the partition key in an event; records with the same key keep their order, except those "
        "that Kinesis does not accept at first. By default, and if the event has nothing there, a hash of the event.",
        examples=["endpoint.Id"],
    )
    max_request_events: int = Field(default=500, ge=1, le=500, description="Maximum number of records per request.")
    max_request_bytes: int = Field(
        default=5_242_880, ge=1, le=10_485_760, description="Maximum request size in bytes, partition keys included."
    )
    max_event_bytes: int = Field(
        default=1_048_320,
        ge=1,
        le=10_485_504,
        description="Maximum record size in bytes; a larger one goes to the quarantine.",
    )
    _key: Path | None = PrivateAttr(default=None)

    @field_validator("partition_key")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        return Path.check(value)

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event, unchanged."""
        return (event,)

    def post(self, request: Packed) -> Receipt:
        """Send one request; the receipt names the records to send again."""
        if self._key is None:
            self._key = Path(self.partition_key)
        key = self._key
        records = [
            {"Data": item, "PartitionKey": key.of(item, allowed=_KEY, max_characters=MAX_KEY_CHARACTERS)}
            for item in request.items
        ]
        answer = self.call(lambda client: client.put_records(StreamName=self.stream_name, Records=records))
        return Receipt(later=failed(answer.get("Records", []), records=len(records)))

    def check(self) -> None:
        """Describe the stream."""
        self.ask(lambda client: client.describe_stream_summary(StreamName=self.stream_name))
