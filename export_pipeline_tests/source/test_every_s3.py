"""What a source promises, against every S3 server that a package registry offers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from export_pipeline.errors import FileGone, FileReplaced, ListingFailed
from export_pipeline.source.etag import are_same
from export_pipeline.source.file import SourceFile
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline_tests.servers.s3 import S3Server

KEYS = ["2026/11/28/09/a b+c%d&é漢.gz", "2026/11/28/09/b.gz", "2026/11/28/10/c.gz", "2026/11/29/09/d.gz"]
CONTENT = bytes(range(256)) * 1_000


@pytest.fixture
def place(any_s3: S3Server) -> Iterator[tuple[S3Server, str, Source]]:
    """A server, a bucket of it with some files, and the bucket as a source."""
    bucket = any_s3.new_bucket()
    any_s3.put(bucket, {f"in/{key}": CONTENT for key in KEYS})
    with closing(open_source(SourceSettings.model_validate({"url": f"s3://{bucket}/in", **any_s3.options}))) as source:
        yield any_s3, bucket, source


def read(source: Source, file: SourceFile, chunk_bytes: int) -> bytes:
    return b"".join(source.read_chunks(file, chunk_bytes=chunk_bytes))


def test_files_are_listed_and_read(place: tuple[S3Server, str, Source]) -> None:
    """Each is listed once, in order, found alone as it was listed, and read whole and in parts."""
    _, _, source = place
    files = list(source.list_files())
    assert [(file.key, file.size_bytes) for file in files] == [(key, len(CONTENT)) for key in sorted(KEYS)]
    assert [file.key for file in source.list_files(after=KEYS[1], before="2026/11/29")] == KEYS[2:3]
    for file in files:
        found = source.find_file(file.key)
        assert found is not None
        assert (found.key, found.size_bytes) == file[:3:2]
        assert are_same(found.etag, file.etag)
        assert read(source, file, 100_000) == CONTENT
        assert read(source, file, len(CONTENT)) == CONTENT
    assert source.find_file("2026/11/28/09/nothing.gz") is None


def test_what_was_replaced_or_removed_is_found_out(place: tuple[S3Server, str, Source]) -> None:
    """Other content under a listed key is never mistaken for it, and the next listing finds it as a separate file."""
    server, bucket, source = place
    _, replaced, removed, _ = source.list_files()
    server.put(bucket, {f"in/{replaced.key}": CONTENT[::-1]})
    server.client().delete_object(Bucket=bucket, Key=f"in/{removed.key}")
    with pytest.raises(FileReplaced):
        read(source, replaced, 100_000)
    with pytest.raises(FileGone):
        read(source, removed, 100_000)
    again = {file.key: file for file in source.list_files()}
    assert removed.key not in again
    assert not are_same(again[replaced.key].etag, replaced.etag)
    assert read(source, again[replaced.key], 100_000) == CONTENT[::-1]


@pytest.mark.parametrize(
    "any_s3",
    # The others, which test_s3.py lists in pages each time, at night.
    ["rclone", "s3rver", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("moto", "ceph"))],
    indirect=True,
)
def test_several_pages_are_listed(any_s3: S3Server) -> None:
    """More files than one page holds come once each and in order."""
    bucket = any_s3.new_bucket()
    keys = [f"2026/11/{n % 28 + 1:02}/{n:04}" for n in range(1_150)]
    client = any_s3.client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b"x"), keys))
    source = open_source(SourceSettings.model_validate({"url": f"s3://{bucket}", **any_s3.options}))
    if any_s3.access_key == "S3RVER":
        # It answers 500 to every listing that takes a second page: that is told, and no part of it is taken for all.
        with pytest.raises(ListingFailed, match="InternalError"):
            list(source.list_files())
        return
    assert [file.key for file in source.list_files()] == sorted(keys)
    later = [key for key in sorted(keys) if key > "2026/11/27"]
    assert [file.key for file in source.list_files(after="2026/11/27")] == later
