"""Where a person can look at a source or a destination: an address to click on where there is one, else its name."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dagster import MetadataValue

from export_pipeline.errors import ConfigurationError
from export_pipeline.printable import as_code
from export_pipeline.storage.location import parse_location
from export_pipeline.subscribers.scrubbing import public_url

_WEB = ("http://", "https://")
# What may stand between the angle brackets of a link in Markdown, as people see it too.
_LINK = re.compile(r"[!-;=?-_a-~]+")
_ADDRESSES = ("url", "api_url", "queue_url")
# The consoles choose the region of a bucket by themselves, and that of a stream by this.
_AWS = "https://console.aws.amazon.com"
_STREAMS = {
    "kinesis": "/kinesis/home{region}#/streams/details/{name}/monitoring",
    "firehose": "/firehose/home{region}#/details/{name}/monitoring",
}
# What these types are told is a key; this is where its owner sees what arrived.
_APPS = {
    "segment": {"us": "https://app.segment.com", "eu": "https://eu1.app.segment.com"},
    "mixpanel": {"us": "https://mixpanel.com", "eu": "https://eu.mixpanel.com", "in": "https://in.mixpanel.com"},
    "amplitude": {"us": "https://app.amplitude.com", "eu": "https://app.eu.amplitude.com"},
    "posthog": {"us": "https://us.posthog.com", "eu": "https://eu.posthog.com"},
}


def source_place(url: str, *, endpoint_url: object = None) -> str:
    """An address for people of a folder in a store; the folder itself where there is none.

    Args:
        endpoint_url: where an S3 of one's own answers: the consoles of the clouds do not know it.
    """
    location = parse_location(url)
    if endpoint_url is not None or not location.bucket or location.bucket.startswith("arn:"):
        return location.url
    prefix = quote(location.prefix)
    if location.scheme == "s3":
        return f"{_AWS}/s3/buckets/{location.bucket}" + (f"?prefix={prefix}" if prefix else "")
    if location.scheme == "gs":
        return f"https://console.cloud.google.com/storage/browser/{location.bucket}/{prefix}".rstrip("/")
    return location.url


def destination_place(type_name: str, options: Mapping[str, Any]) -> str | None:
    """The same of a subscriber; None where the deployment does not say, or keeps it in a variable.

    Args:
        options: as the deployment file has them. What may hold a secret is left out: passwords and queries of URLs.
    """
    for name in _ADDRESSES:
        address = options.get(name)
        if isinstance(address, str):
            return public_url(address) if address.startswith(_WEB) else _stored(address, options)
    if type_name in _APPS:
        region = options.get("region", "us")
        return _APPS[type_name].get(region) if isinstance(region, str) else None
    stream = options.get("stream_name")
    if type_name in _STREAMS and isinstance(stream, str):
        region = options.get("region_name")
        where = f"?region={region}" if isinstance(region, str) else ""
        return _AWS + _STREAMS[type_name].format(region=where, name=quote(stream))
    topic, function = options.get("topic"), options.get("function")
    if isinstance(topic, str):
        return f"topic {topic}"
    return function if isinstance(function, str) else None


def shown(place: str | None, label: str) -> dict[str, MetadataValue[Any]]:
    """*place* as an asset's metadata: a link where it can be one."""
    if place is None:
        return {}
    return {label: MetadataValue.url(place) if place.startswith(_WEB) else MetadataValue.text(place)}


def written(place: str) -> str:
    """*place* in Markdown."""
    return f"<{place}>" if place.startswith(_WEB) and _LINK.fullmatch(place) else as_code(place)


def _stored(address: str, options: Mapping[str, Any]) -> str | None:
    """A folder; anything else, such as the URL of a database, as it is."""
    try:
        return source_place(address, endpoint_url=options.get("endpoint_url"))
    except ConfigurationError:
        return public_url(address)
