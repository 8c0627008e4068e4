"""One object asked for by its key, over the wire: it is what a listing shows."""

import pytest

from export_pipeline.errors import FileForbidden, FileUnreachable
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source
from export_pipeline_tests.servers.programs import free_port
from export_pipeline_tests.servers.s3 import S3Server
from export_pipeline_tests.source.test_s3 import ODD_KEYS, bucket, source_of

__all__ = ["bucket"]


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.thorough)])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """Each server in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


def listed(source: Source) -> list[SourceFile]:
    """As S3 itself lists, in whole seconds; Ceph tells more."""
    return [file._replace(last_modified=file.last_modified.replace(microsecond=0)) for file in source.list_files()]


def test_a_file_is_found_as_a_listing_shows_it(s3: S3Server, bucket: str) -> None:
    """Whatever its key, with the same etag, size and time; a key that another one begins with is none."""
    s3.put(bucket, {f"in/{key}": key.encode() for key in ODD_KEYS if not key.endswith("/")})
    source = source_of(s3, f"s3://{bucket}/in")
    files = listed(source)
    assert [source.find_file(file.key) for file in files] == files
    assert source.find_file("x" * 999) is None
    source.close()


def test_of_a_versioned_object_the_newest_version_is_found(s3: S3Server, bucket: str) -> None:
    """Like a listing, it shows the current version, and nothing if that is a delete marker."""
    client = s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for content in (b"first", b"second"):
        s3.put(bucket, {"in/kept": content, "in/removed": content})
    client.delete_object(Bucket=bucket, Key="in/removed")
    source = source_of(s3, f"s3://{bucket}/in")
    (kept,) = listed(source)
    assert (kept.key, source.find_file("kept")) == ("kept", kept)
    assert kept.size_bytes == len(b"second")
    assert source.find_file("removed") is None
    source.close()


def test_a_file_uploaded_in_parts_is_found_as_listed(s3: S3Server, bucket: str) -> None:
    """Its time is the one that the store gives it, whatever a message says."""
    client = s3.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key="in/a")["UploadId"]
    part = client.upload_part(Bucket=bucket, Key="in/a", UploadId=upload, PartNumber=1, Body=b"{}\n")
    client.complete_multipart_upload(
        Bucket=bucket,
        Key="in/a",
        UploadId=upload,
        MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]},
    )
    source = source_of(s3, f"s3://{bucket}/in")
    assert [source.find_file("a")] == listed(source)
    source.close()


def test_a_store_that_does_not_tell(s3: S3Server, bucket: str) -> None:
    """A store where nobody listens has not said that the file is missing."""
    s3.put(bucket, {"in/a": b""})
    nobody = source_of(s3, f"s3://{bucket}/in", endpoint_url=f"http://127.0.0.1:{free_port()}", max_attempts=1)
    with pytest.raises(FileUnreachable, match="a: "):
        nobody.find_file("a")
    nobody.close()


@pytest.mark.thorough
def test_a_login_that_may_not(ceph: S3Server) -> None:
    """Missing permission is reported as such, because the file may exist."""
    name = ceph.new_bucket()
    ceph.put(name, {"in/a": b""})
    stranger = source_of(ceph, f"s3://{name}/in", aws_secret_access_key="wrong")
    with pytest.raises(FileForbidden, match="a: "):
        stranger.find_file("a")
    stranger.close()
