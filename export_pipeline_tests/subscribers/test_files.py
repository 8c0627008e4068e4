"""The files subscriber: into a folder, and into S3 over the wire."""

import gzip
import subprocess
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest
from backports import zstd
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from export_pipeline.errors import Blocked, StoreError, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.files import Files
from export_pipeline.testing import SubscriberContract, batch_of, sample_event
from export_pipeline_tests.servers.http import Reply, Request, Server

BATCH = batch_of([sample_event(n) for n in range(5)])
KEYS: dict[str, Any] = {
    "aws_access_key_id": "AKIDEXAMPLE1",
    "aws_secret_access_key": "s3cr3t-access-key",
    "region_name": "eu-central-1",
}


Compression = Literal["none", "gzip", "zstd"]


def unpacked(name: str, data: bytes) -> bytes:
    if name.endswith(".ndjson.gz"):
        return gzip.decompress(data)
    if name.endswith(".ndjson.zst"):
        return zstd.decompress(data)
    assert name.endswith(".ndjson")
    return data


class TestFolder(SubscriberContract):
    """A local folder, plain."""

    compression: Compression = "none"
    failures = {"a file is in the way": Blocked}

    @pytest.fixture
    def subscriber(self, tmp_path: Path) -> Subscriber:
        self.folder = tmp_path / "out"
        return Files(url=str(self.folder), compression=self.compression)

    def held(self) -> Iterable[bytes]:
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        return [line for file in files for line in unpacked(file.name, file.read_bytes()).split(b"\n")[:-1]]

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        self.folder.write_text("not a folder")
        return subscriber

    def mend(self) -> None:
        self.folder.unlink()


class TestFolderWithGzip(TestFolder):
    """A local folder, compressed."""

    compression: Compression = "gzip"


class TestFolderWithZstd(TestFolder):
    """A local folder, compressed."""

    compression: Compression = "zstd"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Failing(Server):
    """A store that answers everything with one status."""

    status = 503

    def answer(self, request: Request) -> Reply:
        return Reply(self.status, b"<Error><Code>Something</Code></Error>")


class TestS3(SubscriberContract):
    """S3 over the wire."""

    failures = {"no bucket": Blocked, "forbidden": Blocked, "out of order": TryLater, "nobody listens": TryLater}

    @pytest.fixture
    def subscriber(self, s3: str, request: pytest.FixtureRequest) -> Iterator[Subscriber]:
        self.client: Any = boto3.client("s3", endpoint_url=s3, **KEYS)
        self.bucket = f"b{abs(hash(request.node.nodeid))}"
        self.client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.options = {**KEYS, "endpoint_url": s3}
        with Failing() as self.failing:
            yield Files(url=f"s3://{self.bucket}/events/", **self.options)
        self.client.close()

    def held(self) -> Iterable[bytes]:
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        bodies = [self.client.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read() for item in listed]
        return [line for body in bodies for line in body.split(b"\n")[:-1]]

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        if failure == "no bucket":
            return Files(url="s3://there-is-no-such-bucket/", **self.options)
        self.failing.status = 403 if failure == "forbidden" else 503
        endpoint = "http://127.0.0.1:9" if failure == "nobody listens" else self.failing.url
        return Files(url=f"s3://{self.bucket}/", **{**self.options, "endpoint_url": endpoint, "max_attempts": 2})


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize(("compression", "extension"), [("none", ""), ("gzip", ".gz"), ("zstd", ".zst")])
def test_an_object_is_named_by_day_and_batch(tmp_path: Path, compression: Compression, extension: str) -> None:
    """The name is the day of the events, the batch's id, and an extension that tells format and compression."""
    Files(url=tmp_path.as_uri(), compression=compression).deliver(BATCH)
    [(name, data)] = files_in(tmp_path).items()
    assert name == f"2026/11/23/{BATCH.id}.ndjson{extension}"
    assert unpacked(name, data) == BATCH.data


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_repeat_writes_the_same_bytes(tmp_path: Path, compression: Compression) -> None:
    """Delivering a batch again overwrites its object with identical bytes."""
    Files(url=str(tmp_path), compression=compression).deliver(BATCH)
    before = files_in(tmp_path)
    Files(url=str(tmp_path), compression=compression).deliver(BATCH)
    assert files_in(tmp_path) == before


def test_other_tools_read_what_was_compressed(tmp_path: Path) -> None:
    """The gzip of the command line unpacks the object."""
    Files(url=str(tmp_path), compression="gzip", path="").deliver(BATCH)
    told = subprocess.run(["gzip", "-dc", tmp_path / f"{BATCH.id}.ndjson.gz"], capture_output=True, check=True)
    assert told.stdout == BATCH.data


def test_the_path_is_a_pattern(tmp_path: Path) -> None:
    """``path`` is filled with the day of the events."""
    Files(url=str(tmp_path), path="dt=%Y-%m-%d/part-").deliver(batch_of([b"{}"], day=date(2026, 1, 2)))
    assert list(files_in(tmp_path)) == [f"dt=2026-01-02/part-{BATCH.id}.ndjson"]


@pytest.mark.parametrize("path", ["../%Y/", "/%Y/", "a//b/", "./"])
def test_a_path_cannot_leave_the_folder(path: str) -> None:
    """A path that would lead elsewhere is found when the deployment loads."""
    with pytest.raises(ValidationError, match="is not a valid object name"):
        Files(url="out", path=path)


def test_a_relative_url_is_below_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scheme the URL is a path, from the folder the command runs in."""
    monkeypatch.chdir(tmp_path)
    Files(url="out/events").deliver(BATCH)
    assert list(files_in(tmp_path)) == [f"out/events/2026/11/23/{BATCH.id}.ndjson"]


def test_a_durable_object_is_on_the_disk_before_deliver_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``durable`` the file and its folder are synced; without it they are not."""
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    Files(url=str(tmp_path)).deliver(BATCH)
    assert synced == []
    Files(url=str(tmp_path), durable=True).deliver(BATCH)
    assert len(synced) >= 2


def test_a_url_of_an_unknown_kind_blocks(tmp_path: Path) -> None:
    """An unknown kind of store is reported with the known ones."""
    with pytest.raises(Blocked, match="allowed: s3://"):
        Files(url="ftp://example.com/x").deliver(BATCH)


def test_credentials_that_may_only_write_pass_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the probe cannot be removed it stays; before the first batch none is written at all."""

    def may_not(self: object, name: str) -> None:
        raise StoreError("access denied")

    monkeypatch.setattr("export_pipeline.storage.objects_local.FolderObjects.delete", may_not)
    files = Files(url=str(tmp_path))
    files.check_once()
    assert files_in(tmp_path) == {}
    files.check()
    assert files_in(tmp_path) == {"_export_pipeline_check": b""}


def test_credentials_are_secret() -> None:
    """The deployment file may give these only as {env: NAME}."""
    assert secret_fields(Files) == {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
