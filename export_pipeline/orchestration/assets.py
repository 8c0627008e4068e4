"""The assets: raw events and one for each subscriber, by day. The ops materialise them; nothing runs them directly."""

import re
from collections.abc import Mapping
from typing import Any

from dagster import AssetSpec, DailyPartitionsDefinition

from export_pipeline.configuration.subscribers import SubscriberEntry
from export_pipeline.orchestration import links
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.names import Names
from export_pipeline.storage.location import parse_location

_STORES = {"s3": "s3", "gs": "gcs", "az": "azure", "file": "file"}
_READ = """Events of the files below {place}, as read: unpacked, checked, and cut into batches of NDJSON. {job} \
materialises this once for each manifest, a group of files of one day.

- `events` in batches, the unpacked `bytes` of their files, and how many `files` these were
- `events_of_day`, `files_of_day`: all manifests of the day so far
- `quarantined`: stretches of bytes that are no event, kept in the quarantine
- `lag_seconds`: the age of the oldest of these files when they had been read
- `events_per_second`: how fast they were read
- `first_files`: the first 50 of these files
"""
_DELIVERED = """Events that {name} ({type}{place}) has accepted. {job} materialises this once for each manifest, a \
group of files of one day.

- `events` accepted, `bytes` sent, and how many `files` they come from
- `events_of_day`, `files_of_day`: all that it has of the day so far
- `refused`: events that it will never accept, kept in the quarantine
- `filtered`: events that the deployment keeps from it (`only`, `except`)
- `files_waiting`: files that it is still owed, and `lag_seconds`: the age of the oldest of them
- `events_per_second`: how fast it took them
"""


def export_assets(
    export: Export,
    *,
    source_url: str,
    source: str,
    subscribers: Mapping[str, SubscriberEntry],
    partitions: DailyPartitionsDefinition,
) -> list[AssetSpec]:
    """One spec for the events as read, and one for each subscriber, which depends on it.

    Args:
        source_url: of the source.
        source: where people look at it.
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
        description=_READ.format(place=links.written(source), job=job),
        kinds={"json", _STORES[parse_location(source_url).scheme]},
        metadata=links.shown(source, "source"),
        **common,
    )
    return [raw, *(_delivered(export, raw, entry, job, common) for entry in subscribers.values())]


def _delivered(export: Export, raw: AssetSpec, entry: SubscriberEntry, job: str, common: dict[str, Any]) -> AssetSpec:
    place = links.destination_place(entry.type_name, entry.options)
    shown = f", {links.written(place)}" if place else ""
    return AssetSpec(
        export.names.asset(entry.name),
        deps=[raw],
        description=_DELIVERED.format(name=entry.name, type=entry.type_name, place=shown, job=job),
        kinds={_kind(entry.type_name)},
        metadata=links.shown(place, "destination"),
        **common,
    )


def _jobs(names: Names) -> str:
    return f"`{names.export_job}` (or `{names.backfill_job}`, for chosen days)"


def _kind(type_name: str) -> str:
    """``webhook``, or the class of ``package.module:Class``, as a tag may be written."""
    return re.sub(r"[^a-z0-9_.-]", "", type_name.rpartition(":")[2].lower())[:60] or "python"
