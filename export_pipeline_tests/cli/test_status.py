"""``export-pipeline status``."""

import os
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import text, update

from export_pipeline.ledger import tables as t
from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}


def test_how_far_each_subscriber_is(project: Project, cli: CommandLine, received: Path) -> None:
    """Each subscriber is shown with what it is owed, its lag, and the last file before the first one it is owed."""
    project.config["subscribers"]["crm"] = CRM
    project.put_days("22")
    project.run()
    (received / "crm.fails").touch()
    project.put_days("23")
    run = project.run()
    done = cli("status", "--json")
    assert done.code == 0
    report = done.json()
    copy, crm = report["subscribers"]
    assert (copy["subscriber"], copy["owed_files"], copy["lag_seconds"], copy["last_error"]) == ("copy", 0, 0, None)
    assert (copy["delivered_day"], copy["delivered_key"]) == ("2026-11-23", "2026/11/23/00/001.gz")
    assert (crm["subscriber"], crm["owed_files"], crm["owed_manifests"]) == ("crm", 2, 1)
    assert (crm["delivered_day"], crm["delivered_key"]) == ("2026-11-22", "2026/11/22/00/001.gz")
    assert 0 < crm["lag_seconds"] < 300
    assert "503: down for maintenance" in crm["last_error"]
    assert crm["last_error_run_id"] == run.run_id
    assert crm["last_success_at"] < crm["last_error_at"]
    assert report["account"]["files"] == 4
    assert report["account"]["events_framed"] == 12
    assert report["equations_hold"] is True
    shown = cli("status").out
    assert "2026/11/22/00/001.gz" in shown
    assert re.search(rf"^crm failed \d+ s ago in run {run.run_id[:8]}: batch .*503", shown, re.MULTILINE)
    assert "Listed        up to 2026/11/23/00/001.gz; the end of the source was last reached" in shown
    assert "the events of every file that was read add up; not compared with the source (use --verify)" in shown


def test_an_export_without_any_run(project: Project, cli: CommandLine) -> None:
    """Before the first run the configured subscribers are shown, and no ledger is made by looking."""
    done = cli("status")
    assert done.code == 0
    assert "none yet: the first run creates it" in done.out
    assert "Listed        nothing yet" in done.out
    assert "there was no run yet" in done.out
    assert "not known before its first run" in done.out
    assert not (project.root / "ledger.db").exists()
    assert cli("status", "--json").json()["not_started"] == ["copy"]


def test_a_removed_subscriber_stays_while_it_is_owed_something(
    project: Project, cli: CommandLine, received: Path
) -> None:
    """A subscriber that is configured no longer is shown with what the ledger still owes it."""
    project.config["subscribers"]["crm"] = CRM
    (received / "crm.fails").touch()
    project.put_days("23")
    project.run()
    del project.config["subscribers"]["crm"]
    project.run()
    assert "crm (removed)           2" in cli("status").out
    assert [one["is_active"] for one in cli("status", "--json").json()["subscribers"]] == [True, False]


def test_what_lies_in_the_quarantine_is_counted(project: Project, cli: CommandLine) -> None:
    """Malformed records and unreadable files are counted; an unreadable file is reported until it is given up."""
    project.config["max_attempts"] = 2
    project.put("2026/11/23/a.gz", [b'{"a":1}', b"{broken"])
    project.put_bytes("2026/11/23/b.gz", b"\x1f\x8b\x08 no gzip", compress=False)
    assert not project.run().success
    account = cli("status", "--json").json()["account"]
    assert (account["events_batched"], account["events_quarantined"]) == (1, 1)
    assert (account["unread_files"], account["unreadable_files"], account["given_up_files"]) == (1, 1, 0)
    assert "1 unreadable, retried in later runs" in cli("status").out
    project.run()
    account = cli("status", "--json").json()["account"]
    assert (account["unread_files"], account["unreadable_files"], account["given_up_files"]) == (0, 0, 1)
    done = cli("status")
    assert done.code == 1
    assert "1 malformed record, 0 refused events, 1 unreadable file" in done.out
    assert "Given up      2026/11/23/b.gz, for copy: " in done.out
    assert "export-pipeline quarantine retry" in done.out
    (given_up,) = cli("status", "--json").json()["given_up"]
    assert (given_up["keys"], given_up["subscribers"], given_up["files"]) == (["2026/11/23/b.gz"], ["copy"], 1)


def test_an_equation_that_does_not_hold_is_an_exit_code(project: Project, cli: CommandLine) -> None:
    """Where events are not accounted for, the sentence that says so is shown, and the exit code is 1."""
    project.put_days("23")
    project.run()
    with project.ledger() as ledger, ledger.write() as tx:
        tx.execute(update(t.manifests).values(events_quarantined=7))
    done = cli("status")
    assert done.code == 1
    assert "does not hold:" in done.out
    assert "6 events framed, but 6 in batches and 7 quarantined" in done.out
    done = cli("status", "--json")
    assert (done.code, done.json()["equations_hold"], len(done.json()["imbalances"])) == (1, False, 1)


def test_more_files_wait_than_a_run_takes(project: Project, cli: CommandLine) -> None:
    """A listing that stopped at max_files is reported."""
    project.config["max_files"] = 1
    project.put_days("23")
    project.run()
    assert "; the next run lists more files" in cli("status").out
    project.run()
    assert "lists more files" not in cli("status").out


def test_a_past_that_is_not_listed_yet_is_said(project: Project, cli: CommandLine) -> None:
    """While runs list what a later subscriber wants of the past, it is said from where on that is not done."""
    project.config |= {"max_files": 1, "start_from": "2026-11-23"}
    project.put_days("10", "11", "23", files=1)
    project.run()
    project.config["subscribers"]["second"] = {**project.config["subscribers"]["copy"], "since": "2026-11-10"}
    project.config["subscribers"]["second"]["url"] = str(project.root / "second")
    project.run()
    assert "; earlier files, from 2026/11/10/00/000.gz, are not all listed yet" in cli("status").out
    for _ in range(3):
        project.run()
    assert "not all listed" not in cli("status").out


def test_a_blocked_subscriber_is_an_exit_code(project: Project, cli: CommandLine, received: Path) -> None:
    """A subscriber that gets nothing until a user changes something makes the exit code 1; one that is only down does
    not.
    """
    project.config["subscribers"]["crm"] = CRM
    project.put_days("23")
    (received / "crm.fails").write_text("")
    project.run()
    assert (cli("status").code, cli("status", "--json").json()["blocked"]) == (0, [])
    (received / "crm.fails").write_text("blocked")
    project.run()
    done = cli("status")
    assert done.code == 1
    assert "crm is blocked until someone acts; it failed " in done.out
    assert cli("status", "--json").json()["blocked"] == ["crm"]
    (received / "crm.fails").unlink()
    project.run()
    assert cli("status").code == 0


def test_verify_compares_the_source_with_the_ledger(project: Project, cli: CommandLine) -> None:
    """With --verify the whole source is listed: an object that no run has found is named, and the exit code is 1."""
    project.put_days("01", "23")
    project.run()
    done = cli("status", "--verify")
    assert done.code == 0, done.out
    assert "4 objects in the layout listed, 4 planned" in done.out
    assert "copy has received 4 of 4 objects" in done.out
    assert "not compared" not in done.out
    project.put("2026/11/01/late.gz", [{"a": 1}])
    assert cli("status", "--verify").code == 0
    moment = datetime(2026, 11, 1, tzinfo=timezone.utc).timestamp()
    os.utime(project.bucket / "2026/11/01/late.gz", (moment, moment))
    assert cli("status").code == 0
    done = cli("status", "--verify")
    assert done.code == 1
    assert "MISSING, not found by any run: 1 object: 2026/11/01/late.gz" in done.out
    assert "copy has received 4 of 5 objects, 1 missing" in done.out
    report = cli("status", "--verify", "--json").json()
    assert (report["is_well"], report["verified"]["missing_keys"]) == (False, ["2026/11/01/late.gz"])


def test_verify_tells_new_content_from_files_never_seen(project: Project, cli: CommandLine) -> None:
    """A file whose content, or time, changed after it was delivered is not called a file that nobody ever found."""
    project.put_days("01", "23", files=1)
    project.run()
    moment = datetime(2026, 11, 2, tzinfo=timezone.utc).timestamp()
    os.utime(project.bucket / "2026/11/01/00/000.gz", (moment, moment))
    done = cli("status", "--verify")
    assert done.code == 1
    assert "not found by any run: 1 object: 2026/11/01/00/000.gz (1 of them new content under a known key)" in done.out


def test_verify_before_the_first_run(project: Project, cli: CommandLine) -> None:
    """Without a ledger nothing can be compared, which is not called well."""
    project.put_days("23")
    done = cli("status", "--verify")
    assert done.code == 1
    assert "there is no ledger to compare the source with" in done.out


def test_a_variable_of_a_subscriber_may_be_missing(project: Project, cli: CommandLine) -> None:
    """Looking needs no secret of a destination: a variable that only a subscriber names need not be set."""
    project.put_days("23")
    project.run()
    project.config["subscribers"]["crm"] = {
        "type": "webhook",
        "url": "https://example.com/x",
        "secret": {"env": "NOT_SET_ANYWHERE"},
    }
    done = cli("status", "--json")
    assert done.code == 0
    assert done.json()["not_started"] == ["crm"]
    project.config["ledger"] = {"url": {"env": "NOT_SET_ANYWHERE"}}
    done = cli("status")
    assert done.code == 2
    assert "ledger.url: the environment variable NOT_SET_ANYWHERE is not set" in done.err


def test_a_ledger_of_another_version_is_left_alone(project: Project, cli: CommandLine) -> None:
    """Looking at a ledger of an older version says so and does not migrate it."""
    project.put_days("23")
    project.run()
    with project.ledger() as ledger, ledger.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    done = cli("status")
    assert done.code == 1
    assert "is at schema 0000" in done.err
    assert "its next run or `export-pipeline check` migrates" in done.err


def test_a_database_that_does_not_answer(project: Project, cli: CommandLine) -> None:
    """A PostgreSQL that is down is one line without its password."""
    project.config["ledger"] = {"url": "postgresql://export:hunter2hunter2@127.0.0.1:1/export"}
    done = cli("status")
    assert done.code == 1
    assert done.err.startswith("error: the ledger's database failed: ")
    assert "Connection refused" in done.err
    assert "hunter2hunter2" not in done.err
    assert len(done.err.splitlines()) == 1
