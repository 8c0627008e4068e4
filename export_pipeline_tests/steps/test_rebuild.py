"""Finding the manifests of a lost ledger again."""

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger.manifests import manifest_id_of
from export_pipeline.ledger.records import PlanLimits, Run
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.rebuild import Rebuilt, rebuild, recover
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW, Export

URL = "s3://bucket/events"
LIMITS = PlanLimits(max_events=10_000, max_bytes=1 << 22, manifest_max_files=1_000, manifest_max_bytes=1 << 28)
FIRST = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def file(name: str, arrived: datetime) -> SourceFile:
    """A file of that name."""
    return SourceFile(f"2026/11/23/{name}", f"etag-{name}", 10, arrived)


def identity_of(files: list[SourceFile]) -> str:
    """The id of the manifest that holds them."""
    return manifest_id_of(URL, files, max_events=LIMITS.max_events, max_bytes=LIMITS.max_bytes)


def test_manifests_between_whose_files_late_ones_lie() -> None:
    """Manifests with interleaved keys are found by when their files arrived."""
    early = [file(f"{n:03}", FIRST) for n in range(0, 200, 2)]
    late = [file(f"{n:03}", FIRST + timedelta(minutes=10)) for n in range(1, 200, 2)]
    listed = sorted(early + late, key=lambda one: one.key)
    found = recover(listed, {identity_of(early), identity_of(late)}, url=URL, limits=LIMITS)
    assert found == {identity_of(early): early, identity_of(late): late}


def rebuilt(export: Export) -> Rebuilt:
    """A ledger rebuilt for subscribers that cannot report what they have."""
    return rebuild(
        export.source,
        export.ledger,
        export.settings,
        wanted=export.subscribers,
        marks={},
        from_day=date(2026, 11, 22),
        run=Run("rebuild", NOW),
    )


@on_both_databases
@pytest.mark.parametrize(("key", "since", "start_from"), [("since", "now", "beginning"), ("start_from", None, "now")])
def test_a_start_that_nobody_knows_any_more(
    tmp_path: Path, ledger_url: str, key: str, since: str | None, start_from: str
) -> None:
    """Whoever started `now` once would start at the rebuilding: it is refused, with what to write instead, and nothing
    is written.
    """
    export = Export(tmp_path, ledger_url)
    export.put("2026/11/22/a.json")
    export.subscribers = {"crm": since}
    export.settings = replace(export.settings, start_from=start_from)
    with pytest.raises(ConfigurationError, match=f"^{key} of crm: found now, .* allowed here: beginning, or the first"):
        rebuilt(export)
    export.subscribers = {"crm": "2026-11-21"}
    rebuilt(export)
    assert export.owed("crm") == ["2026/11/22/a.json"]
    export.ledger.close()


def test_a_ledger_of_another_source_too(tmp_path: Path, ledger_url: str) -> None:
    """In a ledger that several exports share, what is lost of one source is rebuilt beside the others."""
    export = Export(tmp_path, ledger_url)
    export.put("2026/11/22/a.json")
    export.run()
    export.bucket = tmp_path / "other"
    export.put("2026/11/23/b.json")
    assert rebuilt(export).manifests == 1
    assert export.owed("crm") == ["2026/11/22/a.json", "2026/11/23/b.json"]
    export.ledger.close()
