"""The links of the assets."""

from pathlib import Path
from typing import Any

import pytest

from export_pipeline.orchestration.assets import destination_place, shown, source_place, written
from export_pipeline.secrets import EnvRef

CONSOLE = "https://console.aws.amazon.com"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://acme/events/", f"{CONSOLE}/s3/buckets/acme?prefix=events/"),
        ("s3://acme", f"{CONSOLE}/s3/buckets/acme"),
        ("arn:aws:s3:::acme/a b", f"{CONSOLE}/s3/buckets/acme?prefix=a%20b/"),
        ("gs://acme/events/", "https://console.cloud.google.com/storage/browser/acme/events"),
        ("az://acme/events", "az://acme/events"),
        ("file:///data/events", "file:///data/events"),
    ],
)
def test_a_folder_leads_to_the_console_of_its_cloud(url: str, place: str) -> None:
    """A bucket of AWS or Google is a link to its console; what has none is named."""
    assert source_place(url) == place


def test_an_s3_of_ones_own_has_no_console() -> None:
    """Where endpoint_url says that the bucket is not at AWS, it is named and not linked."""
    assert source_place("s3://acme/events", endpoint_url="http://127.0.0.1:9000") == "s3://acme/events"
    options = {"url": "s3://acme/out", "endpoint_url": "http://127.0.0.1:9000"}
    assert destination_place("files", options) == "s3://acme/out"


@pytest.mark.parametrize(
    ("type_name", "options", "place"),
    [
        ("webhook", {"url": "https://me:pass@example.com/hook?token=t0ken"}, "https://example.com/hook"),
        ("files", {"url": "s3://acme/out"}, f"{CONSOLE}/s3/buckets/acme?prefix=out/"),
        ("clickhouse", {"api_url": "https://ch.example.com:8443"}, "https://ch.example.com:8443"),
        ("sqs", {"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q"}, "https://sqs.eu-west-1.amazonaws.com/1/q"),
        (
            "kinesis",
            {"stream_name": "events", "region_name": "eu-west-1"},
            f"{CONSOLE}/kinesis/home?region=eu-west-1#/streams/details/events/monitoring",
        ),
        ("firehose", {"stream_name": "events"}, f"{CONSOLE}/firehose/home#/details/events/monitoring"),
        ("kafka", {"bootstrap_servers": "kafka:9092", "topic": "events"}, "topic events"),
        ("segment", {"write_key": EnvRef(env="KEY"), "region": "eu"}, "https://eu1.app.segment.com"),
        ("posthog", {"api_key": EnvRef(env="KEY")}, "https://us.posthog.com"),
        ("python", {"function": "acme.export:send"}, "acme.export:send"),
        ("warehouse", {"destination": "postgres", "url": "postgresql://me:pass@db/x"}, "postgresql://db/x"),
        ("webhook", {"url": EnvRef(env="HOOK")}, None),
        ("acme.export:Own", {}, None),
    ],
)
def test_a_destination_is_shown_without_its_secrets(type_name: str, options: dict[str, Any], place: str | None) -> None:
    """Each type leads to where its events can be seen; passwords and queries are left out, variables are not read."""
    assert destination_place(type_name, options) == place


def test_a_path_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is shown as an absolute path, whatever the reader's working folder."""
    monkeypatch.chdir(tmp_path)
    assert destination_place("files", {"url": "delivered"}) == (tmp_path / "delivered").as_uri()


def test_a_link_can_be_clicked_and_a_name_cannot() -> None:
    """An address becomes a link in metadata and text, a name stays one."""
    assert shown("https://example.com", "destination")["destination"].value == "https://example.com"
    assert type(shown("https://example.com", "destination")["destination"]).__name__ == "UrlMetadataValue"
    assert type(shown("topic events", "destination")["destination"]).__name__ == "TextMetadataValue"
    assert shown(None, "destination") == {}
    assert written("https://example.com") == "<https://example.com>"
    # https://spec.commonmark.org/0.31.2/#code-spans: the blanks are not shown.
    assert written("topic events") == "` topic events `"
