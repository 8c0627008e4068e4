"""Polars reads NDJSON from a bucket and writes it to a file: ``python polars_ndjson.py BUCKET PREFIX OUTPUT``."""

import os
import sys

import polars  # type: ignore[import-not-found, unused-ignore]


def main() -> None:
    """Copy once."""
    bucket, prefix, output = sys.argv[1:]
    frame = polars.scan_ndjson(
        f"s3://{bucket}/{prefix}**/*.gz",
        infer_schema_length=1_000,
        storage_options={
            "aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"],
            "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
            "aws_region": os.environ["AWS_REGION"],
            "aws_allow_http": "true",
        },
    )
    frame.sink_ndjson(output)


if __name__ == "__main__":
    main()
