"""Finding the manifests of a lost ledger again."""

from datetime import datetime, timedelta, timezone

from export_pipeline.ledger.planning import PlanLimits, manifest_id
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.rebuild import recover

URL = "s3://bucket/events"
LIMITS = PlanLimits(max_events=10_000, max_bytes=1 << 22, manifest_max_files=1_000, manifest_max_bytes=1 << 28)
FIRST = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def file(name: str, arrived: datetime) -> SourceFile:
    """A file of that name."""
    return SourceFile(f"2026/11/23/{name}", f"etag-{name}", 10, arrived)


def identity_of(files: list[SourceFile]) -> str:
    """The id of the manifest that holds them."""
    return manifest_id(URL, files, max_events=LIMITS.max_events, max_bytes=LIMITS.max_bytes)


def test_manifests_between_whose_files_late_ones_lie() -> None:
    """Manifests whose keys lie between each other's are found by when their files arrived."""
    early = [file(f"{n:03}", FIRST) for n in range(0, 200, 2)]
    late = [file(f"{n:03}", FIRST + timedelta(minutes=10)) for n in range(1, 200, 2)]
    listed = sorted(early + late, key=lambda one: one.key)
    found = recover(listed, {identity_of(early), identity_of(late)}, url=URL, limits=LIMITS)
    assert found == {identity_of(early): early, identity_of(late): late}
