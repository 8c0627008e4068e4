"""Messages as S3, SNS and EventBridge send them, by AWS's documentation of their structure."""

import json
from typing import Any
from urllib.parse import quote_plus

TEST_MESSAGE = json.dumps(
    {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-23T10:00:00.000Z", "Bucket": "acme"}
)


def record(
    key: str,
    *,
    bucket: str = "acme",
    etag: str | None = "d41d8cd98f00b204e9800998ecf8427e",
    size: Any = 1024,
    time: str | None = "2026-11-23T10:00:00.123Z",
    event: str = "ObjectCreated:Put",
) -> dict[str, Any]:
    """One record, as S3 writes it."""
    about: dict[str, Any] = {"key": quote_plus(key, safe="/"), "sequencer": "0055AED6DCD90281E5"}
    about |= {"eTag": etag} if etag is not None else {}
    about |= {"size": size} if size is not None else {}
    found: dict[str, Any] = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-west-2",
        "eventName": event,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}, "object": about},
    }
    return found | ({"eventTime": time} if time is not None else {})


def of_s3(*records: dict[str, Any]) -> str:
    """A message of S3's own."""
    return json.dumps({"Records": list(records)})


def of_sns(body: str) -> str:
    """*body*, published to a topic and sent on to a queue without raw delivery."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:us-west-2:123456789012:uploads",
            "Subject": "Amazon S3 Notification",
            "Message": body,
            "Timestamp": "2026-11-23T10:00:00.000Z",
            "SignatureVersion": "1",
            "Signature": "EXAMPLE",
        }
    )


def of_event_bridge(
    key: str,
    *,
    bucket: str = "acme",
    etag: str = "d41d8cd98f00b204e9800998ecf8427e",
    size: int = 1024,
    kind: str = "Object Created",
    reason: str = "PutObject",
) -> str:
    """The same by EventBridge, which does not encode keys."""
    return json.dumps(
        {
            "version": "0",
            "id": "17793124-05d4-b198-2fde-7ededc63b103",
            "detail-type": kind,
            "source": "aws.s3",
            "account": "111122223333",
            "time": "2026-11-23T10:00:00Z",
            "region": "ca-central-1",
            "resources": [f"arn:aws:s3:::{bucket}"],
            "detail": {
                "version": "0",
                "bucket": {"name": bucket},
                "object": {"key": key, "size": size, "etag": etag, "sequencer": "617f08299329d189"},
                "request-id": "N4N7GDK58NMKJ12R",
                "reason": reason,
            },
        }
    )
