"""The assets: raw events, and one per subscriber, partitioned by day. The ops materialize them; they have no code."""

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timezone
from typing import Any
from urllib.parse import quote

from dagster import (
    AssetMaterialization,
    AssetSpec,
    DailyPartitionsDefinition,
    MetadataValue,
    TableColumn,
    TableMetadataValue,
    TableRecord,
    TableSchema,
)

from export_pipeline.batching.reading import ManifestReading
from export_pipeline.configuration.names import Names
from export_pipeline.configuration.subscribers import SubscriberEntry
from export_pipeline.deployment import Deployment
from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger.inspection import DayTotal
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.owed import Waiting
from export_pipeline.printable import as_code, printable
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.deliver import Delivered
from export_pipeline.steps.ranges import Sum
from export_pipeline.storage.location import parse_location
from export_pipeline.subscribers.scrubbing import public_url

_WEB = ("http://", "https://")
# Characters that are allowed in a Markdown link in angle brackets and are displayed unchanged.
_LINK = re.compile(r"[!-;=?-_a-~]+")
_ADDRESSES = ("url", "api_url", "queue_url")
_STORES = {"s3": "s3", "gs": "gcs", "az": "azure", "file": "file"}
SHOWN_FILES = 50
"""Maximum number of files in a table; the ledger has all of them."""
# The AWS console finds the region of a bucket by itself; for a stream the region is part of the URL.
_AWS = "https://console.aws.amazon.com"
_STREAMS = {
    "kinesis": "/kinesis/home{region}#/streams/details/{name}/monitoring",
    "firehose": "/firehose/home{region}#/details/{name}/monitoring",
}
# These types are configured with a key, not an address; here its owner sees what arrived.
_APPS = {
    "segment": {"us": "https://app.segment.com", "eu": "https://eu1.app.segment.com"},
    "mixpanel": {"us": "https://mixpanel.com", "eu": "https://eu.mixpanel.com", "in": "https://in.mixpanel.com"},
    "amplitude": {"us": "https://app.amplitude.com", "eu": "https://app.eu.amplitude.com"},
    "posthog": {"us": "https://us.posthog.com", "eu": "https://eu.posthog.com"},
}
_READ = """Events of the files in {place}, as read: decompressed, validated, and cut into batches of NDJSON. {job} \
materializes this once for each manifest, a group of files of one day.

- `events` in batches, the decompressed `bytes` of their files, and the number of `files`
- `events_of_day`, `files_of_day`: all manifests of the day so far
- `quarantined`: malformed records, kept in the quarantine
- `lag_seconds`: the age of the oldest of these files after they were read
- `events_per_second`: the throughput of reading
- `first_files`: the first 50 of these files
"""
_DELIVERED = """Events that {name} ({type}{place}) has accepted. {job} materializes this once for each manifest, a \
group of files of one day.

Materialize it to deliver chosen days to {name}, all in one run: only what it has not received, or, with `only: all` \
in the config of `{op}`, everything again under the same batch ids. A day is materialized once {name} is owed nothing \
of it.

- `events` accepted, `bytes` sent, and the number of `files` they come from
- `events_of_day`, `files_of_day`: what it has received of the day so far
- `refused`: events that it rejected permanently, kept in the quarantine
- `filtered`: events excluded by its filter (`only`, `except`)
- `files_waiting`: files that it is still owed, and `lag_seconds`: the age of the oldest of them
- `events_per_second`: the throughput of the delivery
"""

_FILES = TableSchema(
    columns=[
        TableColumn("file", "string", description="Key in the source."),
        TableColumn("bytes", "int", description="Size as stored."),
        TableColumn("arrived", "string", description="Last modified, in UTC."),
    ]
)


def source_place(url: str, *, endpoint_url: object = None) -> str:
    """The web address of a folder in a store, for people; the folder's own URL if there is none.

    Args:
        endpoint_url: of an S3-compatible store, which has no page in a cloud console.
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
    """The web address of a subscriber's destination; None if the deployment does not contain it, or only as a variable.

    Args:
        options: as in the deployment file. Passwords and query strings of URLs are removed, since they can be secrets.
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
    """*place* as an asset's metadata: a link if it is a web address."""
    if place is None:
        return {}
    return {label: MetadataValue.url(place) if place.startswith(_WEB) else MetadataValue.text(place)}


def written(place: str) -> str:
    """*place* in Markdown."""
    return f"<{place}>" if place.startswith(_WEB) and _LINK.fullmatch(place) else as_code(place)


def _stored(address: str, options: Mapping[str, Any]) -> str | None:
    """The web address of a folder; anything else, such as a database URL, unchanged but for its password."""
    try:
        return source_place(address, endpoint_url=options.get("endpoint_url"))
    except ConfigurationError:
        return public_url(address)


def export_assets(
    deployment: Deployment,
    *,
    source_url: str,
    source: str,
    subscribers: Mapping[str, SubscriberEntry],
    partitions: DailyPartitionsDefinition,
) -> tuple[AssetSpec, dict[str, AssetSpec]]:
    """The spec of the events as read, and by subscriber those that depend on it.

    Args:
        source_url: URL of the source.
        source: web address of the source.
        subscribers: the entries of the deployment file.
    """
    common: dict[str, Any] = {
        "partitions_def": partitions,
        "group_name": deployment.names.prefixed("export"),
        "owners": deployment.owners,
    }
    job = _jobs(deployment.names)
    raw = AssetSpec(
        deployment.names.raw_events,
        description=_READ.format(place=written(source), job=job),
        kinds={"json", _STORES[parse_location(source_url).scheme]},
        metadata=shown(source, "source"),
        **common,
    )
    return raw, {name: _delivered(deployment, raw, entry, job, common) for name, entry in subscribers.items()}


def _delivered(
    deployment: Deployment, raw: AssetSpec, entry: SubscriberEntry, job: str, common: dict[str, Any]
) -> AssetSpec:
    place = destination_place(entry.type_name, entry.options)
    where = f", {written(place)}" if place else ""
    return AssetSpec(
        deployment.names.asset(entry.name),
        deps=[raw],
        description=_DELIVERED.format(
            name=entry.name, type=entry.type_name, place=where, job=job, op=deployment.names.deliver_days
        ),
        kinds={_kind(entry.type_name)},
        metadata=shown(place, "destination"),
        **common,
    )


def _jobs(names: Names) -> str:
    return f"`{names.export_job}` (or `{names.backfill_job}`, for chosen days)"


def _kind(type_name: str) -> str:
    """``webhook``, or the class of ``package.module:Class``, in the characters that a tag allows."""
    return re.sub(r"[^a-z0-9_.-]", "", type_name.rpartition(":")[2].lower())[:60] or "python"


def raw_events(
    asset: list[str], manifest: Manifest, reading: ManifestReading, *, seconds: float, of_day: DayTotal
) -> AssetMaterialization:
    """The materialization of the events read from one manifest.

    Args:
        seconds: how long reading took.
        of_day: what has been read of its day, including this manifest.
    """
    oldest = min(file.last_modified for file in manifest.files)
    return AssetMaterialization(
        asset_key=asset,
        partition=manifest.day.isoformat(),
        metadata={
            "events": reading.events_batched,
            "bytes": reading.bytes_unpacked,
            "files": len(manifest.files),
            **_of_day(of_day),
            "quarantined": reading.events_quarantined,
            "lag_seconds": MetadataValue.float(_age_seconds(oldest)),
            "events_per_second": MetadataValue.float(_rate(reading.events_batched, seconds)),
            "manifest": manifest.id,
            "first_files": _table(manifest.files[:SHOWN_FILES]),
        },
    )


def delivered(asset: list[str], done: Delivered, waiting: Waiting, of_day: DayTotal) -> AssetMaterialization:
    """The materialization of one manifest that a subscriber has accepted.

    Args:
        asset: the subscriber's asset.
        done: what it accepted.
        waiting: what it is still owed; lag_seconds is the age of the oldest file of that.
        of_day: what it has received of the manifest's day, including this manifest.
    """
    events = done.totals.accepted
    return AssetMaterialization(
        asset_key=asset,
        partition=done.manifest.day.isoformat(),
        metadata={
            "events": events,
            "bytes": done.size_bytes,
            "files": len(done.manifest.files),
            **_of_day(of_day),
            "refused": done.totals.refused,
            "filtered": done.totals.filtered,
            "files_waiting": waiting.files,
            "lag_seconds": MetadataValue.float(_age_seconds(waiting.oldest_arrival)),
            "events_per_second": MetadataValue.float(_rate(events, done.seconds)),
            "manifest": done.manifest.id,
        },
    )


def day_delivered(asset: list[str], day: date, done: Sum, of_day: DayTotal) -> AssetMaterialization:
    """The materialization of a day that a subscriber is owed nothing of.

    Args:
        asset: the subscriber's asset.
        done: what it accepted of the day in this run.
        of_day: what it has received of the day.
    """
    return AssetMaterialization(
        asset_key=asset,
        partition=day.isoformat(),
        metadata={
            "events": done.events,
            "bytes": done.size_bytes,
            "files": done.files,
            **_of_day(of_day),
            "refused": done.refused,
        },
    )


def _of_day(total: DayTotal) -> dict[str, int]:
    """Totals of the day: plotted by partition, the UI shows only the last materialization of each day."""
    return {"events_of_day": total.events, "files_of_day": total.files}


def _table(files: Iterable[SourceFile]) -> TableMetadataValue:
    records = [
        TableRecord(
            {
                "file": printable(file.key),
                "bytes": file.size_bytes,
                "arrived": f"{file.last_modified:%Y-%m-%d %H:%M:%S}",
            }
        )
        for file in files
    ]
    return MetadataValue.table(records, schema=_FILES)


def _age_seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else round(max(0.0, (datetime.now(timezone.utc) - moment).total_seconds()), 1)


def _rate(events: int, seconds: float) -> float:
    return round(events / seconds, 1) if seconds > 0 else 0.0
