"""The main job as a whole: every event reaches every subscriber, once."""

import os
from pathlib import Path
from typing import Any, cast

import pytest

from export_pipeline.source.fetch import fetch_in_order
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

RECEIVER = "export_pipeline_tests.integration.receivers"


def python(name: str, **options: object) -> dict[str, object]:
    return {"type": "python", "function": f"{RECEIVER}:{name}", "retry_for_seconds": 0, **options}


def test_250_files_take_three_runs(project: Project, received: Path) -> None:
    """250 files at 100 a run: three runs deliver every event once and in key order, a fourth says there is nothing."""
    project.config["max_files"] = 100
    project.config["subscribers"]["crm"] = python("crm")
    lines = []
    for n in range(250):
        lines += project.put(f"2026/11/23/{n // 100:02}/{n:03}.gz", [{"file": n, "n": number} for number in range(3)])
    for run in range(3):
        assert project.run().success
        assert len(receivers.events("crm", received)) == min(300 * (run + 1), 750)
    fourth = project.run()
    assert fourth.success
    assert fourth.messages("warning") == []
    assert fourth.messages("info") == [
        "found no new file since 2026/11/21; if this is usual, poll less often (frequency is ten_minutes)"
    ]
    assert receivers.events("crm", received) == lines
    assert sorted(project.copied()) == sorted(lines)
    assert project.imbalances() == []
    assert project.staged() == []


def test_a_late_file_is_delivered_alone(project: Project, received: Path) -> None:
    """A file whose key sorts before the cursor, within the lookback, is delivered by the next run, and nothing else."""
    project.config["subscribers"] = {"crm": python("crm")}
    project.put_days("22", "23")
    project.run()
    before = len(receivers.calls("crm", received))
    late = project.put("2026/11/22/00/000-late.gz", [{"late": True}])
    assert project.run().success
    assert [ndjson for _, ndjson in receivers.calls("crm", received)[before:]] == [late[0].decode() + "\n"]


def test_a_subscriber_that_failed_gets_the_same_batches_later(project: Project, received: Path) -> None:
    """A fails in run 1: B gets all then, A gets the same batches in run 2, and B nothing twice."""
    project.config["subscribers"] = {"crm": python("crm"), "dwh": python("dwh")}
    project.config["batch"] = {"max_events": 2}
    lines = project.put_days("22", "23")
    (received / "crm.fails").touch()
    first = project.run()
    assert not first.success
    assert receivers.calls("crm", received) == []
    assert receivers.events("dwh", received) == lines
    assert all(step.startswith("deliver_to_crm") for step in first.failures)
    assert any("503: down for maintenance" in reason for reason in first.failures.values())
    (received / "crm.fails").unlink()
    assert project.run().success
    assert receivers.calls("crm", received) == receivers.calls("dwh", received)
    assert [batch_id for batch_id, _ in receivers.calls("crm", received)] == project.batch_ids()
    assert project.imbalances() == []
    assert project.staged() == []


def test_a_failing_subscriber_is_not_asked_again_in_the_same_run(project: Project, received: Path) -> None:
    """After its first failure the rest of a run is held back for a subscriber: in order, and no storm."""
    project.config["subscribers"] = {"crm": python("crm")}
    project.put_days("21", "22", "23")
    (received / "crm.fails").touch()
    run = project.run()
    held_back = [reason for reason in run.failures.values() if "failed earlier in this run" in reason]
    assert (len(run.failures), len(held_back)) == (3, 2)
    assert project.states("crm") == ["owed"] * 3


def test_a_subscriber_that_lags_keeps_its_order(project: Project, received: Path) -> None:
    """A subscriber that was down gets its oldest files first, no more a run than others get, and the run says so."""
    project.config["max_files"] = 2
    project.config["subscribers"] = {"crm": python("crm"), "dwh": python("dwh")}
    (received / "crm.fails").touch()
    lines = project.put_days("21", "22", "23")
    for _ in range(3):
        project.run()
    assert receivers.events("dwh", received) == lines
    (received / "crm.fails").unlink()
    told = []
    for run in range(3):
        done = project.run()
        assert done.success
        assert receivers.events("crm", received) == lines[: 6 * (run + 1)]
        told += [line for line in done.messages("info") if "later runs" in line]
    assert told == [f"left for later runs: {files} files for crm" for files in (4, 2)]


def test_a_blocked_subscriber_says_that_a_person_must_act(project: Project, received: Path) -> None:
    """Expired credentials fail the run loudly, with what happens next, and lose nothing."""
    project.config["subscribers"] = {"crm": python("blocked")}
    project.put_days("23")
    run = project.run()
    (reason,) = run.failures.values()
    assert "401: the key has expired" in reason
    assert "fix the cause; nothing is lost" in reason
    assert project.states("crm") == ["owed"]


def test_refused_events_are_quarantined_and_the_rest_delivered(project: Project, received: Path) -> None:
    """Events that a subscriber refuses are in the quarantine with reason and bytes; the others are accepted."""
    project.config["subscribers"] = {"picky": python("picky")}
    project.put("2026/11/23/a.gz", [b'{"a":1}', b'{"refuse":2}', b'{"b":3}'])
    run = project.run()
    assert run.success
    assert receivers.events("picky", received) == [b'{"a":1}', b'{"b":3}']
    (record,) = project.quarantined()
    assert (record["subscriber"], record["reason"], record["text"]) == ("picky", "does not like it", '{"refuse":2}')
    told = "refused 1 (quarantined; export-pipeline quarantine list --day 2026-11-23)"
    assert any(told in line for line in run.messages("info"))
    assert project.imbalances() == []


def test_a_broken_line_is_quarantined_and_the_rest_delivered(project: Project) -> None:
    """A malformed line is quarantined with file, offset and bytes; the run logs it and succeeds."""
    project.put("2026/11/23/a.gz", [b'{"a":1}', b'{"a":', b'{"b":3}'])
    run = project.run()
    assert run.success
    assert project.copied() == [b'{"a":1}', b'{"b":3}']
    (record,) = project.quarantined()
    assert (record["key"], record["offset"], record["text"]) == ("2026/11/23/a.gz", 8, '{"a":')
    assert any("quarantined 1 malformed record (export-pipeline" in line for line in run.messages("info"))
    assert project.imbalances() == []


def test_a_file_that_cannot_be_read_is_tried_alone_and_then_given_up(project: Project) -> None:
    """A truncated file is set apart, the files beside it go on, later runs try it alone, the last one gives it up."""
    project.config["max_attempts"] = 3
    lines = project.put_days("22", "23")
    whole = (project.bucket / "2026/11/22/00/000.gz").read_bytes()
    project.put_bytes("2026/11/22/00/000-broken.gz", whole[:-4], compress=False)
    first = project.run()
    assert not first.success
    assert list(first.failures) == ["report_unreadable_files"]
    (error,) = first.messages("error")
    assert "2026/11/22/00/000-broken.gz" in error
    assert sorted(project.copied()) == sorted(lines)
    second = project.run()
    assert not second.success
    assert project.quarantined() == []
    third = project.run()
    assert not third.success
    assert "given up now" in third.messages("error")[0]
    (record,) = project.quarantined()
    assert record["key"] == "2026/11/22/00/000-broken.gz"
    assert project.run().success
    assert project.imbalances() == []


def test_many_unreadable_files_cost_one_more_look(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files of a manifest cannot be read, the others are read three times at most, and delivered."""
    lines = project.put_days("23", files=5)
    for n in range(20):
        project.put_bytes(f"2026/11/23/00/broken-{n:02}.gz", b"\x1f\x8b broken", compress=False)
    readings = 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal readings
        readings += 1
        return fetch_in_order(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("export_pipeline.steps.read.fetch_in_order", counted)
    run = project.run()
    assert readings == 3
    assert "20 files could not be read" in run.messages("error")[0]
    assert sorted(project.copied()) == sorted(lines)


def test_files_without_an_event_are_a_warning(project: Project) -> None:
    """Files that hold no event are done with, and the run says so as a warning."""
    project.put("2026/11/23/a.gz", [])
    run = project.run()
    assert run.success
    assert run.messages("warning") == ["1 file of 2026-11-23 contained no valid events: there is nothing to deliver"]
    assert project.copied() == []
    assert project.states("copy") == ["delivered"]


def test_the_same_key_with_new_content_is_delivered_as_a_new_file(project: Project) -> None:
    """The same key with a new etag is delivered too, with a warning that names it."""
    first = project.put("2026/11/23/a.gz", [{"version": 1}])
    project.run()
    second = project.put("2026/11/23/a.gz", [{"version": 2}])
    run = project.run()
    assert sorted(project.copied()) == sorted(first + second)
    assert any(
        "1 known key was overwritten (new etag), such as 2026/11/23/a.gz" in line for line in run.messages("warning")
    )


def test_a_file_replaced_between_listing_and_reading_is_not_mixed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is replaced after it was listed is not read in part of each: the new one comes with the next run."""
    other = project.put("2026/11/23/b.gz", [{"other": True}])
    project.put("2026/11/23/a.gz", [{"version": 1}])

    def replaced_just_before(*arguments: object, **options: object) -> object:
        project.put("2026/11/23/a.gz", [{"version": 2}])
        return fetch_in_order(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("export_pipeline.steps.read.fetch_in_order", replaced_just_before)
    run = project.run()
    assert not run.success
    assert "2026/11/23/a.gz" in run.messages("error")[0]
    assert project.copied() == other
    monkeypatch.undo()
    assert project.run().success
    assert sorted(project.copied()) == sorted([*other, b'{"version": 2}'])


def test_keys_that_match_no_layout_do_not_stop_the_export(project: Project) -> None:
    """A first page of a thousand keys without a date does not stop the export; they are counted."""
    for n in range(1_050):
        project.put_bytes(f"0-manifest/{n:04}", b"x", compress=False)
    lines = project.put_days("23")
    run = project.run(config={"list_new_files": {"config": {"max_files": 10}}})
    assert run.success
    assert sorted(project.copied()) == sorted(lines)
    assert any("1,050 keys did not match source.layout" in line for line in run.messages("warning"))


def test_max_files_of_the_launchpad_holds_for_one_run(project: Project) -> None:
    """max_files given to one run bounds that run only."""
    lines = project.put_days("23", files=5)
    project.run(config={"list_new_files": {"config": {"max_files": 2}}})
    assert len(project.copied()) == 6
    project.run()
    assert sorted(project.copied()) == sorted(lines)


def test_a_run_without_a_subscriber_says_what_to_configure(project: Project) -> None:
    """Without a subscriber a run ends well, says that there was nothing to do, and what to configure."""
    project.config["subscribers"] = {}
    project.put_days("23")
    run = project.run()
    assert run.success
    assert run.messages("info") == [
        "no subscriber is configured, so no events can be delivered; add one under `subscribers:` in test"
    ]


def test_staging_that_was_lost_is_read_again(project: Project, received: Path) -> None:
    """When staged batches vanish before a retry, they are read again, and are the same."""
    project.config["subscribers"] = {"crm": python("crm"), "dwh": python("dwh")}
    project.config["batch"] = {"max_events": 2}
    project.put_days("23")
    (received / "crm.fails").touch()
    project.run()
    assert project.staged() != []
    for name in project.staged():
        os.unlink(project.root / "staging" / name)
    (received / "crm.fails").unlink()
    assert project.run().success
    assert receivers.calls("crm", received) == receivers.calls("dwh", received)


def test_nothing_stays_staged_for_a_subscriber_that_was_removed(project: Project, received: Path) -> None:
    """Staged batches go once all configured subscribers have them; a removed one gets its own when it is back."""
    project.config["subscribers"] = {"crm": python("crm"), "dwh": python("dwh")}
    lines = project.put_days("23")
    for name in ("crm", "dwh"):
        (received / f"{name}.fails").touch()
    project.run()
    (received / "dwh.fails").unlink()
    crm = project.config["subscribers"].pop("crm")
    assert project.run().success
    assert receivers.events("dwh", received) == lines
    assert project.staged() == []
    (received / "crm.fails").unlink()
    project.config["subscribers"]["crm"] = crm
    assert project.run().success
    assert receivers.calls("crm", received) == receivers.calls("dwh", received)


def test_a_delivered_file_edited_in_place_changes_nothing_for_others(project: Project, received: Path) -> None:
    """Who rewrites what the files subscriber delivered changes neither what others still get nor what they have."""
    project.config["subscribers"]["second"] = {"type": "files", "url": str(project.root / "second")}
    project.config["subscribers"]["crm"] = python("crm")
    lines = project.put_days("23")
    (received / "crm.fails").touch()
    assert not project.run().success
    for path in (project.root / "copy").rglob("*.ndjson"):
        with path.open("r+b") as file:
            file.write(b"X" * path.stat().st_size)
    (received / "crm.fails").unlink()
    assert project.run().success
    assert receivers.events("crm", received) == lines
    written = b"".join(path.read_bytes() for path in sorted((project.root / "second").rglob("*.ndjson")))
    assert written.splitlines() == lines
    assert project.imbalances() == []


def test_bytes_that_changed_since_they_were_delivered_in_part_are_not_delivered(
    project: Project, received: Path
) -> None:
    """A manifest delivered to one subscriber is never delivered to another with other bytes: the newer content is
    delivered as such, and the run warns that one subscriber never had the older.
    """
    project.config["subscribers"] = {"crm": python("crm"), "dwh": python("dwh")}
    project.put_days("23", files=1)
    (received / "crm.fails").touch()
    project.run()
    for name in project.staged():
        os.unlink(project.root / "staging" / name)
    (received / "crm.fails").unlink()
    project.put("2026/11/23/00/000.gz", [{"other": "content"}])
    run = project.run()
    assert run.success
    (warning,) = [text for text in run.messages("warning") if text.startswith("manifest ")]
    assert "1 file (2026/11/23/00/000.gz) replaced in the source since others received it" in warning
    (record,) = project.quarantined()
    assert record["reason"].endswith("given up for crm, which had not received it")
    assert [change["state"] for change in record["life"]] == ["resolved"]
    assert [ndjson for _, ndjson in receivers.calls("crm", received)] == ['{"other": "content"}\n']
    assert len(dict(receivers.calls("dwh", received))) == 2
    assert all(
        dict(receivers.calls("dwh", received)).get(batch_id) == ndjson
        for batch_id, ndjson in receivers.calls("crm", received)
    )


def test_what_the_assets_show(project: Project, received: Path) -> None:
    """Reading and delivering materialise the assets of the day with numbers that plot, and the files of a manifest."""
    from dagster import AssetKey, DagsterInstance, TableMetadataValue

    project.config["subscribers"] = {"picky": python("picky", only={"kind": ["click", "no"]})}
    project.put_days("22", files=1)
    project.put("2026/11/23/0.gz", [b'{"kind":"click"}'])
    project.run()
    events = [b'{"kind":"click"}', b'{"kind":"click"}', b'{"kind":"view"}', b'{"kind":"no","refuse":1}', b'{"a":']
    project.put("2026/11/23/a.gz", events)
    for n in range(60):
        project.put(f"2026/11/23/b-{n:02}.gz", [])
    assert project.run().success
    with DagsterInstance.from_config(str(project.home)) as instance:
        shown = {}
        for key in ("raw_events", "picky"):
            assert instance.get_materialized_partitions(AssetKey([key])) == {"2026-11-22", "2026-11-23"}
            event = instance.get_latest_materialization_event(AssetKey([key]))
            assert event is not None
            assert event.asset_materialization is not None
            shown[key] = dict(event.asset_materialization.metadata)
    raw, picky = ({name: cast(Any, value.value) for name, value in one.items()} for one in shown.values())
    assert (raw["events"], raw["quarantined"], raw["files"]) == (4, 1, 61)
    assert (raw["events_of_day"], raw["files_of_day"]) == (5, 62)
    assert (picky["events"], picky["refused"], picky["filtered"], picky["files"]) == (2, 1, 1, 61)
    assert (picky["events_of_day"], picky["files_of_day"]) == (3, 62)
    assert (picky["files_waiting"], picky["lag_seconds"]) == (0, 0)
    for numbers in (raw, picky):
        assert all(numbers[name] > 0 for name in ("bytes", "events_per_second"))
    assert raw["lag_seconds"] >= 0
    table = shown["raw_events"]["first_files"]
    assert isinstance(table, TableMetadataValue)
    assert len(table.records) == 50
    assert table.records[0].data["file"] == "2026/11/23/a.gz"
    assert table.records[0].data["bytes"] == (project.bucket / "2026/11/23/a.gz").stat().st_size


def test_a_failed_run_is_re_executed_from_failure(project: Project, received: Path) -> None:
    """Re-execution from failure repeats only the delivery that failed."""
    from dagster import DagsterInstance, ReexecutionOptions, execute_job

    from export_pipeline_tests.integration import reexecution

    project.config["subscribers"] = {"crm": python("crm"), "dwh": python("dwh")}
    lines = project.put_days("22", "23")
    (received / "crm.fails").touch()
    job = reexecution.reloadable(project.deployment_path)
    with DagsterInstance.from_config(str(project.home)) as instance:
        first = execute_job(job, instance=instance)
        assert not first.success
        (received / "crm.fails").unlink()
        options = ReexecutionOptions.from_failure(first.run_id, instance)
        again = execute_job(job, instance=instance, reexecution_options=options)
        assert again.success
        steps = {event.step_key for event in again.all_events if event.is_step_start}
    assert all((step or "").startswith("deliver_to_crm") for step in steps)
    # In a re-execution Dagster keeps no order among mapped steps of equal priority.
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert receivers.events("dwh", received) == lines


def test_a_re_execution_calls_nothing_unread_that_was_read(project: Project, received: Path) -> None:
    """Of a run that isolated a file and whose delivery failed, a re-execution reports the file, and the rest, which is
    still owed, not as left out.
    """
    from dagster import DagsterInstance, ReexecutionOptions, execute_job

    from export_pipeline_tests.integration import reexecution

    project.config["subscribers"] = {"crm": python("crm")}
    project.put_days("23")
    project.put_bytes("2026/11/23/00/broken.gz", b"\x1f\x8b\x08\x00 broken", compress=False)
    (received / "crm.fails").touch()
    job = reexecution.reloadable(project.deployment_path)
    with DagsterInstance.from_config(str(project.home)) as instance:
        first = execute_job(job, instance=instance)
        assert not first.success
        options = ReexecutionOptions.from_failure(first.run_id, instance)
        again = execute_job(job, instance=instance, reexecution_options=options)
        told = [
            event.step_failure_data.user_failure_data.description or ""
            for event in again.all_events
            if event.is_step_failure and event.step_failure_data.user_failure_data
        ]
    assert not [one for one in told if "never read" in one]
    assert [one for one in told if "2026/11/23/00/broken.gz" in one]
