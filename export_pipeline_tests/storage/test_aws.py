"""Logging in to S3, as far as it can be seen without AWS."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.stub import Stubber
from pydantic import ValidationError

from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.aws import AwsLogin, open_session
from export_pipeline.storage.folders import brief
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.remote import open_store
from export_pipeline.storage.settings import StoreSettings

KEYS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret"}


def login(url: str = "s3://acme-events", **options: Any) -> AwsLogin:
    return AwsLogin(parse_location(url), StoreSettings.model_validate({**KEYS, **options}))


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:s3:eu-central-1:123456789012:accesspoint/events",
        "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/events",
        "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/events",
    ],
)
def test_access_points_are_where_boto3_finds_them(arn: str) -> None:
    """obstore reads an access point at the host that boto3 works out for its ARN."""
    one = login(arn)
    config, _ = one.obstore_config()
    url = one.client.generate_presigned_url("get_object", Params={"Bucket": arn, "Key": "k"})
    assert urlsplit(config["endpoint"]).netloc == urlsplit(url).netloc
    assert config["virtual_hosted_style_request"] is True
    assert config["region"] == arn.split(":")[3]


@pytest.mark.parametrize(
    ("options", "endpoint", "virtual"),
    [
        ({"region_name": "eu-central-1"}, None, True),
        ({"region_name": "eu-central-1", "virtual_hosted_style": False}, None, False),
        ({"endpoint_url": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000", False),
        (
            {"endpoint_url": "https://oss.example.com", "virtual_hosted_style": True},
            "https://acme-events.oss.example.com",
            True,
        ),
    ],
)
def test_where_a_bucket_is_addressed(options: dict[str, Any], endpoint: str | None, virtual: bool) -> None:
    """AWS gets the bucket in the host name, other servers in the path, and virtual_hosted_style says otherwise."""
    config, _ = login(**options).obstore_config()
    assert config.get("endpoint") == endpoint
    assert config["virtual_hosted_style_request"] is virtual
    style = "virtual" if virtual else "path"
    url = login(**options).client.generate_presigned_url("get_object", Params={"Bucket": "acme-events", "Key": "k"})
    assert urlsplit(url).netloc.startswith("acme-events.") is (style == "virtual")


def test_a_bucket_with_dots_is_addressed_by_path() -> None:
    """No TLS certificate covers a host name with the bucket's dots in it."""
    config, _ = login("s3://acme.events", region_name="eu-central-1").obstore_config()
    assert config["virtual_hosted_style_request"] is False


@pytest.mark.parametrize(("status", "code"), [(301, "301"), (403, "403"), (200, None)])
def test_the_region_of_a_bucket_is_found_out(status: int, code: str | None) -> None:
    """Where no region is configured, the bucket's own is asked for; even a refusal tells it."""
    one = login()
    stub = Stubber(one.client)
    headers = {"HTTPStatusCode": status, "HTTPHeaders": {"x-amz-bucket-region": "ap-south-1"}}
    if code is None:
        stub.add_response("head_bucket", {"ResponseMetadata": headers}, {"Bucket": "acme-events"})
    else:
        stub.add_client_error("head_bucket", code, http_status_code=status, response_meta=headers)
    with stub:
        config, _ = one.obstore_config()
    assert config["region"] == "ap-south-1"


def test_directory_buckets_are_known_by_their_name() -> None:
    """A bucket of S3 Express One Zone is read by its own rules."""
    one = login("s3://acme--use1-az4--x-s3", region_name="us-east-1")
    assert one.is_express
    assert one.obstore_config()[0]["s3_express"] is True
    assert not login().is_express


def test_credentials_are_renewed_before_they_end() -> None:
    """obstore asks again after ten minutes at most: so long before their end botocore renews temporary credentials."""
    from datetime import datetime, timedelta, timezone

    _, provider = login(region_name="us-east-1").obstore_config()
    assert provider is not None
    given: Any = provider()
    assert given["access_key_id"] == "AKIAEXAMPLE"
    assert given["expires_at"] <= datetime.now(timezone.utc) + timedelta(minutes=10)


def test_sessions_share_the_descriptions_of_services() -> None:
    """However many sessions a process opens, botocore parses AWS's services once, and searches each folder once."""
    loaders = [open_session(StoreSettings())._session.get_component("data_loader") for _ in range(3)]
    assert loaders[0] is loaders[1] is loaders[2]
    open_session(StoreSettings(role_arn="arn:aws:iam::123456789012:role/reader", region_name="eu-west-1"))
    paths = list(loaders[0].search_paths)
    assert len(paths) <= len(set(paths)) + 1, "boto3's own folder may stand there a second time, and no more"


@pytest.mark.parametrize(
    "given",
    [
        {"aws_access_key_id": "a"},
        {"aws_secret_access_key": "a"},
        {"aws_session_token": "a"},
        {"max_attempts": 0},
        {"retry_mode": "often"},
        {"verify": 3},
        {"bucket": "x"},
    ],
)
def test_settings_that_do_not_add_up(given: dict[str, Any]) -> None:
    """Half a login, unknown options and impossible values are refused when the settings are read."""
    with pytest.raises(ValidationError):
        StoreSettings.model_validate(given)


def test_a_missing_ca_bundle_is_named(tmp_path: Any) -> None:
    """A CA bundle that does not exist is a configuration error with its path."""
    settings = StoreSettings.model_validate(
        {**KEYS, "region_name": "us-east-1", "verify": str(tmp_path / "missing.pem")}
    )
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        open_store(parse_location("s3://acme-events"), settings)


def test_every_option_says_what_it_is_for() -> None:
    """Each field of the settings has a description, which the documentation is made from."""
    from export_pipeline.source.settings import SourceSettings

    for name, field in SourceSettings.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Generic S3 error: no\n\nDebug source:\nGeneric { secret }", "Generic S3 error: no"),
        ("GET https://host/a?X-Amz-Signature=abc&b=1 failed", "GET https://host/a?… failed"),
        ("GET https://user:pw@host/a failed", "GET https://host/a failed"),
        ("<AWSAccessKeyId>AKIA</AWSAccessKeyId>", "<AWSAccessKeyId>…</AWSAccessKeyId>"),
        ("two\n  lines", "two lines"),
    ],
)
def test_messages_of_stores_are_shortened(text: str, short: str) -> None:
    """A store's error is reported on one line, without signatures, passwords and key ids."""
    assert brief(ValueError(text)) == short
    assert len(brief(ValueError("x" * 2_000))) == 500
    assert brief(ValueError("")) == "ValueError"
