"""A bucket of S3 as a source, over the wire, against servers that speak the protocol."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import pytest

from export_pipeline.errors import (
    ConfigurationError,
    FileArchived,
    FileForbidden,
    FileGone,
    FileReplaced,
    FileUnreachable,
    ListingFailed,
)
from export_pipeline.source.file import SourceFile
from export_pipeline.source.s3 import S3Source
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline.storage.objects import open_objects
from export_pipeline.storage.settings import StoreSettings
from export_pipeline_tests.servers.programs import free_port
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server

ODD_KEYS = [
    "a//b", "/lead", "dir/", "end//", "x/../y", "./z", "../up", "a/./b", "a/..", "ctl\x01x", "tab\tx", "\x7f",
    "a b+c%d&<>\"'é漢😀?#", "a.gz", "a/b", "a/c", "a\\b", "~", "*", ":|\"", "x\u00a0", "e\u0301", "+", "%20", "%2F",
    "a%2fb", "x" * 1_000,
]  # fmt: skip


def source_of(server: S3Server, url: str, **options: object) -> Source:
    return open_source(SourceSettings.model_validate({"url": url, **server.options, **options}))


def read(source: Source, file: SourceFile, chunk_bytes: int = 4) -> bytes:
    return b"".join(source.read_chunks(file, chunk_bytes=chunk_bytes))


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


def test_odd_keys_are_listed_and_read_as_they_are(s3: S3Server, bucket: str) -> None:
    """Keys that are not paths neither stop a listing nor are read under another name; folder markers are not files."""
    s3.put(bucket, {f"in/{key}": key.encode() for key in ODD_KEYS})
    source = source_of(s3, f"s3://{bucket}/in")
    files = list(source.list_files())
    assert [file.key for file in files] == sorted(key for key in ODD_KEYS if not key.endswith("/"))
    for file in files:
        assert read(source, file) == file.key.encode()
        replaced = SourceFile(file.key, "0" * 32, file.size_bytes, file.last_modified)
        with pytest.raises(FileReplaced):
            read(source, replaced)
        gone = SourceFile(file.key + "-", file.etag, file.size_bytes, file.last_modified)
        with pytest.raises(FileGone):
            read(source, gone)


@pytest.fixture(scope="session")
def big_buckets() -> dict[str, tuple[str, list[str]]]:
    """Server URL → a bucket with 2,345 files, and their keys. Filled at first use."""
    return {}


@pytest.fixture
def big(s3: S3Server, big_buckets: dict[str, tuple[str, list[str]]]) -> tuple[str, list[str]]:
    if s3.url not in big_buckets:
        name = s3.new_bucket()
        keys = [f"2026/{n % 12 + 1:02}/{n % 28 + 1:02}/é{n:04}.gz" for n in range(2_300)]
        keys += [f"2026-{n:02}" for n in range(20)] + [f"2026.{n:02}" for n in range(25)]
        objects = open_objects(f"s3://{name}/in", StoreSettings(**s3.options))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: objects.put(key, key.encode()), keys))
        objects.put("../outside".removeprefix("../"), b"")
        big_buckets[s3.url] = name, sorted([*keys, "outside"])
    return big_buckets[s3.url]


# moto, whose server takes a second for each, at night.
@pytest.mark.parametrize("s3", ["ceph", pytest.param("moto", marks=pytest.mark.thorough)], indirect=True)
@pytest.mark.parametrize(
    ("after", "prefix", "before"),
    [
        ("", "", None),
        ("2026/05/05/é0004.gz", "", None),
        ("2026/05/05/", "2026/0", "2026/09"),
        ("", "2026", "2026/02"),
        ("2026/12/99", "2026/11", None),
        ("2026/1", "2026/1", "2026/10/02/é0049.gz"),
        ("zz", "", None),
        ("2026/0\U0010ffff", "2026", None),
    ],
)
def test_listings_of_several_pages(
    s3: S3Server, big: tuple[str, list[str]], after: str, prefix: str, before: str | None
) -> None:
    """Whatever the limits, exactly the keys between them come, in order, though S3 gives 1,000 at a time."""
    bucket, keys = big
    source = source_of(s3, f"s3://{bucket}/in/")
    found = [file.key for file in source.list_files(after=after, prefix=prefix, before=before)]
    assert found == [key for key in keys if key > after and key.startswith(prefix) and (before is None or key < before)]


@pytest.mark.parametrize("s3", ["ceph", pytest.param("moto", marks=pytest.mark.thorough)], indirect=True)
def test_a_listing_stops_asking_when_it_is_left(s3: S3Server, big: tuple[str, list[str]]) -> None:
    """Whoever takes the first file and no more causes one request, however long the listing is."""
    bucket, keys = big
    source = source_of(s3, f"s3://{bucket}/in/")
    assert isinstance(source, S3Source)
    asked: list[object] = []
    source._client.meta.events.register("before-send.s3.ListObjectsV2", lambda request, **_: asked.append(request))
    assert next(source.list_files()).key == keys[0]
    assert len(asked) == 1


def test_a_file_replaced_after_the_listing_is_not_read(s3: S3Server, bucket: str) -> None:
    """Other bytes under a listed key raise FileReplaced, even when they have the same length."""
    s3.put(bucket, {"2026/11/23/a": b"old bytes"})
    source = source_of(s3, f"s3://{bucket}")
    [file] = source.list_files()
    assert read(source, file) == b"old bytes"
    s3.put(bucket, {"2026/11/23/a": b"new bytes"})
    with pytest.raises(FileReplaced, match="2026/11/23/a"):
        read(source, file)


def test_a_file_replaced_while_it_is_read_is_not_mixed(s3: S3Server, bucket: str) -> None:
    """When the object changes between two requests for parts of it, the second one raises FileReplaced."""
    s3.put(bucket, {"a": b"old bytes"})
    source = source_of(s3, f"s3://{bucket}")
    [file] = source.list_files()
    chunks = source.read_chunks(file, chunk_bytes=4)
    assert next(chunks) == b"old "
    s3.put(bucket, {"a": b"new bytes"})
    with pytest.raises(FileReplaced):
        next(chunks)


def test_a_deleted_file_is_gone(s3: S3Server, bucket: str) -> None:
    """A listed file that was deleted raises FileGone."""
    s3.put(bucket, {"a": b"x"})
    source = source_of(s3, f"s3://{bucket}")
    [file] = source.list_files()
    s3.client().delete_object(Bucket=bucket, Key="a")
    with pytest.raises(FileGone):
        read(source, file)


def test_an_empty_file_is_listed_and_read(s3: S3Server, bucket: str) -> None:
    """An empty file is a file, and its replacement is detected anyway."""
    s3.put(bucket, {"a": b"", "folder/": b""})
    source = source_of(s3, f"s3://{bucket}")
    [file] = source.list_files()
    assert (file.key, file.size_bytes, read(source, file)) == ("a", 0, b"")
    s3.put(bucket, {"a": b"x"})
    with pytest.raises(FileReplaced):
        read(source, file)


def test_a_missing_bucket_is_named(s3: S3Server) -> None:
    """Listing a bucket that does not exist fails with its URL and the store's reason."""
    with pytest.raises(ListingFailed, match=r"s3://no-such-bucket-here/in could not be listed: .*NoSuchBucket"):
        list(source_of(s3, "s3://no-such-bucket-here/in").list_files())


def test_wrong_credentials_are_told_without_showing_them(ceph: S3Server) -> None:
    """A refused login fails listing and reading, and neither key nor secret is in the message."""
    bucket = ceph.new_bucket()
    ceph.put(bucket, {"a": b"x"})
    [file] = source_of(ceph, f"s3://{bucket}").list_files()
    secret = SECRET_KEY[::-1]
    wrong = source_of(ceph, f"s3://{bucket}", aws_secret_access_key=secret)
    with pytest.raises(ListingFailed, match="SignatureDoesNotMatch") as listing:
        list(wrong.list_files())
    with pytest.raises(FileForbidden) as reading:
        read(wrong, file)
    for error in (listing.value, reading.value):
        assert secret not in str(error)
        assert ACCESS_KEY not in str(error)


def test_public_buckets_need_no_credentials(ceph: S3Server) -> None:
    """An unsigned session reads a public bucket, and is refused a private one."""
    bucket = ceph.new_bucket()
    client = ceph.client()
    client.put_object(Bucket=bucket, Key="a", Body=b"x", ACL="public-read")
    source = open_source(SourceSettings(url=f"s3://{bucket}", endpoint_url=ceph.url, use_unsigned_session=True))
    with pytest.raises(ListingFailed, match="AccessDenied"):
        list(source.list_files())
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    [file] = source.list_files()
    assert read(source, file) == b"x"


def test_login_and_endpoint_from_the_environment(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings leave out comes from boto3's environment variables, for listing and for reading."""
    bucket = ceph.new_bucket()
    ceph.put(bucket, {"a": b"x"})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ceph.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    source = open_source(SourceSettings(url=f"s3://{bucket}"))
    [file] = source.list_files()
    assert read(source, file) == b"x"


def test_login_from_a_profile(
    ceph: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A profile's credentials and endpoint serve for listing and for reading; an unknown profile is named."""
    bucket = ceph.new_bucket()
    ceph.put(bucket, {"a": b"x"})
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text(
        f"[profile lab]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n"
        f"region=us-east-1\nendpoint_url={ceph.url}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    source = open_source(SourceSettings(url=f"s3://{bucket}", profile_name="lab"))
    [file] = source.list_files()
    assert read(source, file) == b"x"
    with pytest.raises(ConfigurationError, match="nobody"):
        list(open_source(SourceSettings(url=f"s3://{bucket}", profile_name="nobody")).list_files())


def test_the_configured_endpoint_beats_the_environment(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """endpoint_url holds for listing and for reading, whatever endpoint the environment names."""
    bucket = ceph.new_bucket()
    ceph.put(bucket, {"a": b"x"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    source = source_of(ceph, f"s3://{bucket}")
    [file] = source.list_files()
    assert read(source, file) == b"x"


def test_a_role_is_assumed(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With role_arn, listing and reading go with the temporary credentials of the role."""
    bucket = moto.new_bucket()
    moto.put(bucket, {"a": b"x"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.url)
    source = source_of(
        moto, f"s3://{bucket}", role_arn="arn:aws:iam::123456789012:role/reader", role_external_id="tenant"
    )
    assert isinstance(source, S3Source)
    [file] = source.list_files()
    assert read(source, file) == b"x"
    credentials = source._login.session.get_credentials()
    assert credentials is not None
    assert credentials.method == "assume-role"
    assert credentials.access_key.startswith("ASIA")


def test_bucket_arns_name_the_bucket(moto: S3Server) -> None:
    """The ARN of a bucket, with a prefix, is the same source as its s3:// URL."""
    bucket = moto.new_bucket()
    moto.put(bucket, {"in/a": b"x", "other": b""})
    source = source_of(moto, f"arn:aws:s3:::{bucket}/in/")
    assert source.url == f"s3://{bucket}/in"
    assert [file.key for file in source.list_files()] == ["a"]


def test_a_server_without_if_match_gives_no_other_bytes(rclone: S3Server) -> None:
    """Where the server answers with another object in spite of If-Match, its etag gives it away."""
    bucket = rclone.new_bucket()
    rclone.put(bucket, {"2026/11/23/a": b"old bytes"})
    source = source_of(rclone, f"s3://{bucket}")
    [file] = source.list_files()
    assert read(source, file, chunk_bytes=100) == b"old bytes"
    rclone.put(bucket, {"2026/11/23/a": b"new bytes"})
    with pytest.raises(FileReplaced):
        read(source, file, chunk_bytes=100)


def test_nothing_is_asked_before_it_is_needed() -> None:
    """Opening a source asks neither the network nor for credentials; listing without any says what to set."""
    url = f"http://127.0.0.1:{free_port()}"
    source = open_source(SourceSettings(url="s3://bkt/in", endpoint_url=url, region_name="us-east-1"))
    assert source.url == "s3://bkt/in"
    with pytest.raises(ListingFailed, match="credentials"):
        list(source.list_files())


@pytest.mark.parametrize("key", ["2026/a.gz", "2026//odd.gz"])
@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_object_in_an_archive_is_told_from_a_refusal(moto: S3Server, key: str, storage_class: Any) -> None:
    """S3 answers 403 for an object in Glacier, which says nothing about the login: the file alone is to blame."""
    bucket = moto.new_bucket()
    moto.client().put_object(Bucket=bucket, Key=key, Body=b"x", StorageClass=storage_class)
    source = source_of(moto, f"s3://{bucket}")
    [file] = source.list_files()
    with pytest.raises(FileArchived, match=r"it is in an archive tier \(InvalidObjectState\) and must be restored"):
        read(source, file)


@pytest.mark.parametrize("key", ["2026/a.gz", "2026//odd.gz"])
def test_a_bucket_that_is_gone_is_no_file_that_is_gone(s3: S3Server, key: str) -> None:
    """Where the bucket does not exist any more no file is to blame, though the status is that of a missing file."""
    source = source_of(s3, f"s3://{'no-such-bucket-' + uuid4().hex[:8]}")
    file = SourceFile(key, "e", 1, datetime(2026, 11, 23, tzinfo=timezone.utc))
    with pytest.raises(FileUnreachable, match=r"the bucket or container does not exist \(NoSuchBucket\)"):
        read(source, file)
