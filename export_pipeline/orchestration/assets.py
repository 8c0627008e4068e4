"""The assets: raw events and one for each subscriber, by day. The ops materialise them; nothing runs them directly."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from dagster import AssetSpec, DailyPartitionsDefinition, MetadataValue

from export_pipeline.configuration.subscribers import SubscriberEntry
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.names import Names
from export_pipeline.storage.location import parse_location

_STORES = {"s3": "s3", "gs": "gcs", "az": "azure", "file": "file"}
_READ = """Events of the files below {url}, as read: unpacked, checked, and cut into batches of NDJSON. {job} \
materialises this once for each manifest, a group of files of one day.

- `events` in batches, the unpacked `bytes` of their files, and how many `files` these were
- `quarantined`: stretches of bytes that are no event, kept in the quarantine
- `lag_seconds`: the age of the oldest of these files when they had been read
- `events_per_second`: how fast they were read
"""
_DELIVERED = """Events that {name} ({type}) has accepted. {job} materialises this once for each manifest, a group of \
files of one day.

- `events` accepted, `bytes` sent, and how many `files` they come from
- `quarantined`: events that it will never accept, kept in the quarantine
- `files_waiting`: files that it is still owed, and `lag_seconds`: the age of the oldest of them
- `events_per_second`: how fast it took them
"""


def export_assets(
    export: Export, *, url: str, subscribers: Mapping[str, SubscriberEntry], partitions: DailyPartitionsDefinition
) -> list[AssetSpec]:
    """One spec for the events as read, and one for each subscriber, which depends on it.

    Args:
        url: of the source.
        subscribers: as the deployment file has them.
    """
    common: dict[str, Any] = {
        "partitions_def": partitions,
        "group_name": export.names.prefixed("export"),
        "owners": export.watching.owners,
    }
    job = _jobs(export.names)
    raw = AssetSpec(
        export.names.raw_events,
        description=_READ.format(url=url, job=job),
        kinds={"json", _STORES[parse_location(url).scheme]},
        metadata=_link("source", url),
        **common,
    )
    delivered = [
        AssetSpec(
            export.names.asset(name),
            deps=[raw],
            description=_DELIVERED.format(name=name, type=entry.type_name, job=job),
            kinds={_kind(entry.type_name)},
            metadata=_link("destination", entry.options.get("url")),
            **common,
        )
        for name, entry in subscribers.items()
    ]
    return [raw, *delivered]


def _jobs(names: Names) -> str:
    return f"`{names.export_job}` (or `{names.backfill_job}`, for chosen days)"


def _kind(type_name: str) -> str:
    """``webhook``, or the class of ``package.module:Class``, as a tag may be written."""
    return re.sub(r"[^a-z0-9_.-]", "", type_name.rpartition(":")[2].lower())[:60] or "python"


def _link(label: str, url: object) -> dict[str, MetadataValue]:
    """Where it is, unless the deployment keeps that in a variable or with a password in it."""
    if not isinstance(url, str) or "@" in urlsplit(url).netloc:
        return {}
    return {label: MetadataValue.url(url) if url.startswith(("http://", "https://")) else MetadataValue.text(url)}
