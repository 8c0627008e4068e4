"""The benchmark's S3 server speaks enough of S3 for all that are measured."""

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.bucket import Entry, read_index, write_index
from benchmarks.serving import ACCESS_KEY, REGION, SECRET_KEY, Server, answers_per_second, serving
from export_pipeline.errors import FileReplaced
from export_pipeline.source.file import SourceFile
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = bytes(range(256)) * 10
KEYS = [f"events/2026/11/{day:02}/{n:04}.gz" for day in (19, 20) for n in range(700)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bucket of 1,400 keys, which all have the same bytes."""
    folder = tmp_path_factory.mktemp("bucket")
    (folder / "body").write_bytes(BODY)
    entries = [Entry(key, f"{n:032x}", len(BODY), 1_700_000_000, folder / "body") for n, key in enumerate(KEYS)]
    write_index(folder / "index.tsv", reversed(entries))
    return folder / "index.tsv"


@pytest.fixture(scope="module", params=[0, 1], ids=["at once", "1 ms late"])
def server(request: pytest.FixtureRequest, index: Path) -> Iterator[Server]:
    """The server with that bucket."""
    with serving({"bench": index}, latency_ms=request.param) as found:
        yield found


@pytest.fixture
def client(server: Server) -> "S3Client":
    """boto3's client of it."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


@pytest.fixture
def source(server: Server) -> Iterator[Source]:
    """The source of this project, on it."""
    found = open_source(
        SourceSettings(
            url="s3://bench/events/",
            endpoint_url=server.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
    )
    yield found
    found.close()


def test_the_source_lists_and_reads_it(source: Source) -> None:
    """Over two pages and from any key on, our own source finds every file, and reads whole files and ranges."""
    files = list(source.list_files())
    assert ["events/" + file.key for file in files] == KEYS
    assert [file.key for file in source.list_files(after=files[1_398].key)] == [files[1_399].key]
    assert source.read_range(files[3], 0, len(BODY)) == BODY
    assert source.read_range(files[3], 10, 300) == BODY[10:300]


def test_another_etag_is_refused(source: Source) -> None:
    """If-Match with an etag that the object does not have is answered with 412."""
    first = next(source.list_files())
    other = SourceFile(first.key, "f" * 32, first.size_bytes, datetime.now(timezone.utc))
    with pytest.raises(FileReplaced):
        source.read_range(other, 0, first.size_bytes)


def test_folders_are_folded(client: "S3Client") -> None:
    """With a delimiter, folders come as common prefixes, page by page, each once."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket="bench", Prefix="events/2026/11/", Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    found = [folder["Prefix"] for page in pages for folder in page.get("CommonPrefixes", [])]
    assert found == ["events/2026/11/19/", "events/2026/11/20/"]


def test_the_older_listing_pages_too(client: "S3Client") -> None:
    """ListObjects gives the same keys as ListObjectsV2."""
    pages = client.get_paginator("list_objects").paginate(Bucket="bench", PaginationConfig={"PageSize": 300})
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == KEYS


def test_what_is_missing_is_missing(client: "S3Client") -> None:
    """HEAD tells size and etag; a key and a bucket that are not there are 404."""
    from botocore.exceptions import ClientError

    head = client.head_object(Bucket="bench", Key=KEYS[5])
    assert (head["ContentLength"], head["ETag"]) == (len(BODY), f'"{5:032x}"')
    for bucket, key in (("bench", "events/none"), ("none", KEYS[5])):
        with pytest.raises(ClientError, match="404"):
            client.head_object(Bucket=bucket, Key=key)


def test_its_speed_can_be_told(server: Server, index: Path) -> None:
    """Asking for many files on many connections gives each connection its own answers."""
    keys = [entry.key for entry in read_index(index)]
    assert answers_per_second(server, "bench", keys, seconds=0.05) > 0
