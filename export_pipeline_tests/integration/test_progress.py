"""Progress in the event log of a run."""

import pytest

from export_pipeline.orchestration import reporting
from export_pipeline_tests.integration.project import Project


def test_long_work_says_how_far_it_is(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing, reading and delivering each say what is done of what was planned; the last line has all of it."""
    monkeypatch.setattr(reporting, "EVERY_SECONDS", 0.0)
    project.config["batch"] = {"max_events": 2}
    project.put_days("22", files=2, events=4)
    run = project.run()
    assert run.success
    lines = run.messages("info")
    stored = sum(path.stat().st_size for path in project.bucket.rglob("*.gz"))
    assert "listing: 2 keys so far" in lines
    reading = [line for line in lines if line.startswith("reading: ")]
    assert len(reading) == 4
    # The files are counted by the thread that unpacks ahead, so the second one may still be open.
    assert reading[-1].endswith(f" of 2 files, {stored} bytes of {stored} bytes as stored, 8 events so far")
    delivering = [line for line in lines if line.startswith("copy has accepted")]
    assert [line.partition(",")[0] for line in delivering] == [
        f"copy has accepted {events} of 8 events" for events in (2, 4, 6, 8)
    ]
    day = project.run("backfill_job", partition="2026-11-22")
    assert "listing: 2 keys so far" in day.messages("info")


def test_a_run_says_how_far_it_is(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over several manifests says what each subscriber has, of all that the run took upon itself."""
    monkeypatch.setattr(reporting, "EVERY_SECONDS", 0.0)
    project.put_days("21", "22", "23", files=2, events=4)
    stored = [path.stat().st_size for path in sorted(project.bucket.rglob("*.gz"))]
    run = project.run()
    assert [line for line in run.messages("info") if line.startswith("this run")] == [
        f"this run so far: copy has {files} of 6 files, {sum(stored[:files])} bytes of {sum(stored)} bytes as stored, "
        f"{files * 4} events"
        for files in (2, 4, 6)
    ]
    day = project.run("backfill_job", partition="2026-11-22", tags={"export_pipeline/only": "all"})
    assert [line.partition(",")[0] for line in day.messages("info") if line.startswith("this run")] == [
        "this run so far: copy has 2 of 2 files"
    ]
    # Runs of other tests in this process may have ended before their last op.
    assert not {run.run_id, day.run_id} & reporting._RUNS.keys()


def test_short_work_says_nothing_of_it(project: Project) -> None:
    """A run of less than ten seconds has no line about progress."""
    project.put_days("22")
    run = project.run()
    assert [line for line in run.messages("info") if "so far" in line] == []
