"""URLs of stores."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.location import Location, parse_location

ACCESS_POINT = "arn:aws:s3:eu-central-1:123456789012:accesspoint/events"


@pytest.mark.parametrize(
    ("url", "location", "normal"),
    [
        ("s3://acme/events/", Location("s3", "acme", "events/"), "s3://acme/events"),
        ("s3://acme/events", Location("s3", "acme", "events/"), "s3://acme/events"),
        ("S3://acme", Location("s3", "acme", ""), "s3://acme"),
        ("s3://acme/", Location("s3", "acme", ""), "s3://acme"),
        ("s3://acme/a%20b?c#d", Location("s3", "acme", "a%20b?c#d/"), "s3://acme/a%20b?c#d"),
        ("s3://acme/a//b", Location("s3", "acme", "a//b/"), "s3://acme/a//b"),
        ("arn:aws:s3:::acme", Location("s3", "acme", ""), "s3://acme"),
        ("arn:aws-cn:s3:::acme/events/", Location("s3", "acme", "events/"), "s3://acme/events"),
        (ACCESS_POINT, Location("s3", ACCESS_POINT, ""), f"s3://{ACCESS_POINT}"),
        (f"{ACCESS_POINT}/in", Location("s3", ACCESS_POINT, "in/"), f"s3://{ACCESS_POINT}/in"),
        (f"{ACCESS_POINT}/object/in/", Location("s3", ACCESS_POINT, "in/"), f"s3://{ACCESS_POINT}/in"),
        ("gs://acme/events", Location("gs", "acme", "events/"), "gs://acme/events"),
        ("az://acme/events", Location("az", "acme", "events/"), "az://acme/events"),
        ("file:///var/in/", Location("file", "", "/var/in"), "file:///var/in"),
        ("file:///var/a%20b", Location("file", "", "/var/a b"), "file:///var/a%20b"),
        ("file://localhost/var", Location("file", "", "/var"), "file:///var"),
        ("file:/var", Location("file", "", "/var"), "file:///var"),
        ("/var/../var//in", Location("file", "", "/var/in"), "file:///var/in"),
        ("/var/a%20b", Location("file", "", "/var/a%20b"), "file:///var/a%2520b"),
    ],
)
def test_one_spelling_for_one_place(url: str, location: Location, normal: str) -> None:
    """Each way to write a place comes to the same location and the same URL."""
    assert parse_location(url) == location
    assert parse_location(url).url == normal


def test_relative_paths_start_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a slash at its beginning is taken from where the command runs; ~ is the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    here = os.getcwd()
    assert parse_location("in/a").prefix == f"{here}/in/a"
    assert parse_location("file:in").prefix == f"{here}/in"
    assert parse_location("../in").prefix == f"{os.path.dirname(here)}/in"
    assert parse_location("~/in").prefix == "/home/somebody/in"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://host/in", "ftp:// is not supported"),
        ("https://host/in", "https:// is not supported"),
        ("s3://", "does not name a bucket"),
        ("s3:///in", "does not name a bucket"),
        ("s3://a b/in", "does not name a bucket"),
        ("arn:aws:sqs:eu-west-1:123456789012:queue", "neither the ARN of an S3 bucket nor of an access point"),
        ("arn:aws:s3:::", "neither the ARN"),
        ("file://host/in", "names the host host"),
        ("", "is not a folder.s path"),
        ("a\0b", "is not a folder.s path"),
    ],
)
def test_what_names_no_place(url: str, complaint: str) -> None:
    """Anything else is refused with what was found and what is allowed."""
    with pytest.raises(ConfigurationError, match=complaint):
        parse_location(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    """A URL with a password is refused, and the message does not show it."""
    with pytest.raises(ConfigurationError, match="contains credentials") as raised:
        parse_location("s3://AKIA:planted-secret@bucket/in")
    assert "planted-secret" not in str(raised.value)


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")) | st.just("/")))
def test_normal_urls_are_stable(parts: list[str]) -> None:
    """A normalised URL is its own normal form and means the same place, for buckets and for folders."""
    path = "".join(parts)
    for url in (f"s3://bucket/{path}", f"/{path}"):
        location = parse_location(url)
        assert parse_location(location.url) == location
        assert parse_location(location.url).url == location.url
