"""What the assets show: numbers that plot over time, one materialisation for each manifest."""

from collections.abc import Iterable
from datetime import datetime, timezone

from dagster import (
    AssetKey,
    AssetMaterialization,
    MetadataValue,
    TableColumn,
    TableMetadataValue,
    TableRecord,
    TableSchema,
)

from export_pipeline.batching.reading import ManifestReading
from export_pipeline.ledger.days import DayTotal
from export_pipeline.ledger.owed import Waiting
from export_pipeline.ledger.readings import Manifest
from export_pipeline.printable import printable
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.deliver import Delivered

SHOWN_FILES = 50
"""How many files a table shows; the rest is in the ledger, which a table of all would only repeat."""

_FILES = TableSchema(
    columns=[
        TableColumn("file", "string", description="Its key in the source."),
        TableColumn("bytes", "int", description="As it is stored."),
        TableColumn("arrived", "string", description="When it was last written, in UTC."),
    ]
)


def raw_events(
    asset: AssetKey, manifest: Manifest, reading: ManifestReading, *, seconds: float, of_day: DayTotal
) -> AssetMaterialization:
    """Events of one manifest have been read.

    Args:
        seconds: how long that took.
        of_day: what has been read of its day, this manifest included.
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


def delivered(asset: AssetKey, done: Delivered, waiting: Waiting, of_day: DayTotal) -> AssetMaterialization:
    """A subscriber has accepted one manifest.

    Args:
        asset: the subscriber's.
        done: what it accepted.
        waiting: what it is still owed; lag_seconds is the age of the oldest file of that.
        of_day: what it has of the manifest's day, this manifest included.
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


def _of_day(total: DayTotal) -> dict[str, int]:
    """By partition, the UI plots of each day only what came last."""
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
