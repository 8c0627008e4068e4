"""dlt loads a bucket's NDJSON into a folder of jsonl: ``python dlt_jsonl.py plain|tuned BUCKET PREFIX OUTPUT WORK``."""

import os
import sys
from pathlib import Path

import dlt  # type: ignore[import-not-found, unused-ignore]
from dlt.destinations import filesystem as folder  # type: ignore[import-not-found, unused-ignore]
from dlt.sources.credentials import AwsCredentials  # type: ignore[import-not-found, unused-ignore]
from dlt.sources.filesystem import filesystem, read_jsonl  # type: ignore[import-not-found, unused-ignore]

# What dlt's documentation recommends for speed: no child tables, larger files, more workers, no compression.
_TUNED = {
    "EXTRACT__WORKERS": "4",
    "NORMALIZE__WORKERS": "2",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "50000",
    "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "50000",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "50000",
}


def main() -> None:
    """Load once."""
    how, bucket, prefix, output, work = sys.argv[1:]
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true"}
    if how == "tuned":
        os.environ |= _TUNED
    credentials = AwsCredentials(
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        region_name=os.environ["AWS_REGION"],
    )
    files = filesystem(bucket_url=f"s3://{bucket}/{prefix}", credentials=credentials, file_glob="**/*.gz")
    events = (files | read_jsonl(chunksize=10_000 if how == "tuned" else 1_000)).with_name("events")
    events.apply_hints(write_disposition="append")
    if how == "tuned":
        events.max_table_nesting = 0
    pipeline = dlt.pipeline(
        "bench", destination=folder(bucket_url=Path(output).as_uri()), dataset_name="out", pipelines_dir=work
    )
    pipeline.run(events, loader_file_format="jsonl")


if __name__ == "__main__":
    main()
