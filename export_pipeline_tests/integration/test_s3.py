"""The export over the wire: source, staging, quarantine and copies in real S3 servers."""

import gzip
import json
from typing import Any

import pytest

from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server

pytestmark = pytest.mark.usefixtures("one_event_log")


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEST_SECRET_KEY", SECRET_KEY)


def in_s3(server: S3Server, url: str, **more: Any) -> dict[str, Any]:
    """A place in S3, with its secrets named as environment variables."""
    return {
        "url": url,
        "endpoint_url": server.url,
        "region_name": "us-east-1",
        "aws_access_key_id": {"env": "TEST_ACCESS_KEY"},
        "aws_secret_access_key": {"env": "TEST_SECRET_KEY"},
        **more,
    }


def objects(server: S3Server, bucket: str, prefix: str = "") -> dict[str, bytes]:
    """Every object below a prefix."""
    client = server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@pytest.mark.usefixtures("login")
def test_everything_in_s3(project: Project, s3: S3Server) -> None:
    """Source, staging, quarantine and a subscriber in S3: every event arrives once, and staging is empty afterwards."""
    bucket = s3.new_bucket()
    lines = [json.dumps({"n": n}).encode() for n in range(60)]
    contents = {
        f"raw/2026/11/23/{n:02}/part {n}+é.gz": gzip.compress(b"\n".join(lines[3 * n : 3 * n + 3])) for n in range(20)
    }
    s3.put(bucket, {**contents, "raw/2026/11/23/": b"", "raw/2026/11/23/00/broken": b'{"a":', "raw/readme.txt": b"?"})
    project.config.update(
        source=in_s3(s3, f"s3://{bucket}/raw/"),
        staging=in_s3(s3, f"s3://{bucket}/staging"),
        quarantine=in_s3(s3, f"s3://{bucket}/quarantine"),
        subscribers={"copy": {"type": "files", **in_s3(s3, f"s3://{bucket}/copy")}},
        batch={"max_events": 7},
        max_files=15,
    )
    assert project.run().success
    assert project.run().success
    copies = objects(s3, bucket, "copy/")
    assert sorted(line for data in copies.values() for line in data.split(b"\n")[:-1]) == sorted(lines)
    assert objects(s3, bucket, "staging/") == {}
    (record,) = objects(s3, bucket, "quarantine/").values()
    assert json.loads(record)["key"] == "2026/11/23/00/broken"
    assert any(line.startswith("found no new file since") for line in project.run().messages("info"))
    assert project.imbalances() == []


@pytest.mark.usefixtures("login")
def test_a_listing_of_several_pages(project: Project, s3: S3Server) -> None:
    """More than 1,000 keys, that is several pages of a listing, are exported once each, late ones included."""
    bucket = s3.new_bucket()
    s3.put(bucket, {f"2026/11/23/{n:04}": b'{"n":%d}' % n for n in range(1_005)})
    project.config.update(source=in_s3(s3, f"s3://{bucket}"), max_files=600)
    assert project.run().success
    s3.put(bucket, {"2026/11/22/23/late": b'{"late":1}'})
    for _ in range(2):
        assert project.run().success
    expected = [b'{"n":%d}' % n for n in range(1_005)] + [b'{"late":1}']
    assert sorted(project.copied()) == sorted(expected)


@pytest.mark.usefixtures("login")
def test_a_bucket_arn_names_the_bucket(project: Project, moto: S3Server) -> None:
    """A source may be given as the ARN of its bucket."""
    bucket = moto.new_bucket()
    moto.put(bucket, {"2026/11/23/a": b'{"a":1}'})
    project.config.update(source=in_s3(moto, f"arn:aws:s3:::{bucket}"))
    assert project.run().success
    assert project.copied() == [b'{"a":1}']


@pytest.mark.usefixtures("login")
def test_a_key_that_obstore_cannot_name_is_exported_too(project: Project, ceph: S3Server) -> None:
    """Keys with empty segments or control characters, allowed in S3, neither stop the listing nor are left out."""
    bucket = ceph.new_bucket()
    ceph.put(bucket, {"2026/11/23//double": b'{"a":1}', "2026/11/23/bell\x07": b'{"b":2}', "2026/11/23/c": b'{"c":3}'})
    project.config.update(source=in_s3(ceph, f"s3://{bucket}"))
    assert project.run().success
    assert sorted(project.copied()) == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


@pytest.mark.usefixtures("login")
def test_a_listing_that_is_refused_fails_with_its_cause(project: Project, ceph: S3Server) -> None:
    """A bucket that is not there fails the run with the source's URL and the cause, and no secret."""
    project.config.update(source=in_s3(ceph, "s3://no-such-bucket-here/raw"))
    run = project.run()
    assert not run.success
    (reason,) = run.failures.values()
    assert "s3://no-such-bucket-here/raw" in reason
    assert "NoSuchBucket" in reason or "404" in reason
    assert SECRET_KEY not in reason


@pytest.mark.thorough
@pytest.mark.usefixtures("login")
def test_a_run_by_command_line_in_s3(project: Project, moto: S3Server) -> None:
    """`dagster job execute` works the same on S3."""
    bucket = moto.new_bucket()
    moto.put(bucket, {"2026/11/23/a": b'{"a":1}'})
    project.config.update(source=in_s3(moto, f"s3://{bucket}"))
    code, printed = project.execute()
    assert code == 0, printed
    assert project.copied() == [b'{"a":1}']
    assert SECRET_KEY not in printed
