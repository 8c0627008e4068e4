"""A bucket that receives a million files an hour, minute by minute: their names and notifications, but no bytes."""

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from hashlib import blake2b

from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source

FILES_AN_HOUR = 1_000_000
START = datetime(2026, 11, 23, tzinfo=timezone.utc)
BUCKET, PREFIX = "bench", "events/"
SIZE_BYTES = 60_000
# Firehose names a file by the time of its oldest record, which may be well before the upload.
_LATE_EACH, _LATE = 50, timedelta(minutes=20)
# A queue returns a few messages twice, and in no order.
_TWICE_EACH = 100


def minute_of(number: int) -> datetime:
    """When minute *number* begins."""
    return START + timedelta(minutes=number)


@lru_cache(maxsize=2)
def files_of(minute: int) -> tuple[SourceFile, ...]:
    """The files that arrive in one minute, a sixtieth of a million, in order of arrival."""
    arrival = minute_of(minute)
    found = []
    for n in range(FILES_AN_HOUR * minute // 60, FILES_AN_HOUR * (minute + 1) // 60):
        named = arrival - _LATE if n % _LATE_EACH == 0 else arrival
        mark = blake2b(n.to_bytes(8, "big"), digest_size=16).hexdigest()
        key = f"{named:%Y/%m/%d/%H}/stream-1-{named:%Y-%m-%d-%H-%M}-{mark[:12]}.json.gz"
        found.append(SourceFile(key, mark, SIZE_BYTES, arrival + timedelta(seconds=n % 60)))
    return tuple(found)


def messages_of(minute: int) -> list[str]:
    """The messages about the files of one minute, as S3 writes them: some twice, and shuffled."""
    files = files_of(minute)
    bodies = [_message(file) for file in files]
    bodies += bodies[::_TWICE_EACH]
    random.Random(minute).shuffle(bodies)
    return bodies


def _message(file: SourceFile) -> str:
    about = {"key": PREFIX + file.key, "size": file.size_bytes, "eTag": file.etag, "sequencer": "0055AED6DCD90281E5"}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": file.last_modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:AROAEXAMPLEEXAMPLEEX:AWSFirehoseToS3"},
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {
            "x-amz-request-id": "C3D13FE58DE4C810",
            "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5W",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "export",
            "bucket": {
                "name": BUCKET,
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": f"arn:aws:s3:::{BUCKET}",
            },
            "object": about,
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"))


class Bucket(Source):
    """The bucket before its first file: the only listing in a simulation finds nothing."""

    url = f"s3://{BUCKET}/{PREFIX.removesuffix('/')}"

    def list_files(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """Nothing."""
        return iter(())

    def read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        """Nothing is read here."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""
