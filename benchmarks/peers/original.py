"""The algorithm of the predecessor, in boto3: one page, one file after the other, joined to one string at the end.

``python original.py BUCKET PREFIX MAX_FILES OUTPUT``
"""

import gzip
import sys

import boto3


def main() -> None:
    """Export once."""
    bucket, prefix, max_files, output = sys.argv[1:]
    client = boto3.client("s3")
    page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=int(max_files))
    parts = [
        gzip.decompress(client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()).decode()
        for entry in page["Contents"]
    ]
    joined = "".join(parts)
    with open(output, "w", encoding="utf-8") as file:
        file.write(joined)


if __name__ == "__main__":
    main()
