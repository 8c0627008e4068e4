"""Put every event into an Amazon Data Firehose stream (PutRecordBatch)."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from export_pipeline.batching.batch import Receipt
from export_pipeline.subscribers.aws import AwsSubscriber, failed
from export_pipeline.subscribers.packing import Packed


class Firehose(AwsSubscriber):
    """Puts each event into a delivery stream as one record; records that Firehose did not accept are put again, alone.

    Firehose does not deduplicate: after a crash a batch may be there twice.
    """

    service: ClassVar[str] = "firehose"
    separator_bytes: ClassVar[int] = 0
    stream_name: str = Field(description="Name of the delivery stream.")
    newline: bool = Field(
        default=True, description="End each record with a line feed; Firehose itself does not separate records."
    )
    max_request_events: int = Field(default=500, ge=1, le=500, description="Maximum number of records per request.")
    max_request_bytes: int = Field(default=4_194_304, ge=1, le=4_194_304, description="Maximum request size in bytes.")
    max_event_bytes: int = Field(
        default=1_024_000,
        ge=1,
        le=1_024_000,
        description="Maximum record size in bytes, its line feed included; a larger one goes to the quarantine.",
    )

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event, with a line feed if ``newline`` is set."""
        return (event + b"\n",) if self.newline else (event,)

    def post(self, request: Packed) -> Receipt:
        """Send one request; the receipt names the records to send again."""
        records = [{"Data": item} for item in request.items]
        answer = self.call(lambda client: client.put_record_batch(DeliveryStreamName=self.stream_name, Records=records))
        return Receipt(later=failed(answer.get("RequestResponses", []), records=len(records)))

    def check(self) -> None:
        """Describe the stream."""
        self.ask(lambda client: client.describe_delivery_stream(DeliveryStreamName=self.stream_name))
