"""``export-pipeline quarantine``."""

from pathlib import Path

import pytest

from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

PICKY = {"type": "python", "function": "export_pipeline_tests.integration.receivers:picky", "retry_for_seconds": 0}


@pytest.fixture
def full(project: Project, received: Path) -> Project:
    """A project whose quarantine holds two malformed records, a refused event and a whole file."""
    project.config.update(subscribers={"picky": PICKY}, max_attempts=1, limits={"max_depth": 2})
    project.put("2026/11/22/a.gz", [b'{"a":1}', b'{"d":{"e":{}}}', b"{b\xffd"])
    project.put("2026/11/23/a.gz", [b'{"a":1}', b'{"refuse":1}'])
    project.put_bytes("2026/11/23/b.gz", b"\x1f\x8b\x08 no gzip", compress=False)
    project.run()
    return project


def test_what_waits(full: Project, cli: CommandLine) -> None:
    """`list` has a line for each manifest, or batch with refused events: what it is, how much, and why."""
    found = cli("quarantine", "list", "--json").json()
    assert {(one["kind"], one["records"], one["what"]) for one in found} == {
        ("stretch", 2, "from 2026/11/22/a.gz"),
        ("refused", 1, "refused by picky, from 2026/11/23/a.gz"),
        ("file", 1, "the file 2026/11/23/b.gz"),
    }
    shown = cli("quarantine", "list").out
    assert all(one["id"] in shown and one["reason"] in shown for one in found)
    of_the_day = cli("quarantine", "list", "--day", "2026-11-22", "--json").json()
    assert [one["kind"] for one in of_the_day] == ["stretch"]
    manifest = of_the_day[0]["id"].partition("/")[2]
    assert cli("quarantine", "list", "--manifest", manifest, "--json").json() == of_the_day


def test_one_of_them(full: Project, cli: CommandLine) -> None:
    """`show` tells each record's place, reason and content; `--bytes` writes the content itself."""
    (stretches,) = cli("quarantine", "list", "--day", "2026-11-22", "--json").json()
    shown = cli("quarantine", "show", stretches["id"]).out
    assert '{"d":{"e":{}}}' in shown
    assert r"b'{b\xffd'" in shown
    assert "14 bytes at offset 8 of the decompressed file" in shown
    first, second = cli("quarantine", "show", stretches["id"], "--json").json()
    assert (first["offset"], second["offset"], second["text"]) == (8, 23, None)
    assert cli.script("quarantine", "show", stretches["id"], "--bytes", "--limit", "1").out == '{"d":{"e":{}}}\n'
    refused = next(one for one in cli("quarantine", "list", "--json").json() if one["kind"] == "refused")
    shown = cli("quarantine", "show", refused["id"]).out
    assert "picky: event 1 of batch " in shown
    assert "does not like it" in shown


def test_a_terminal_is_not_ordered_about(project: Project, cli: CommandLine) -> None:
    """A terminal's sequences in content and key of what is quarantined are shown as Python writes them, not obeyed."""
    project.put("2026/11/22/a\x1b[2K.gz", ["}\x1b]0;owned\x07\u202e".encode()])
    project.run()
    (one,) = cli("quarantine", "list", "--json").json()
    listed, shown = cli("quarantine", "list"), cli("quarantine", "show", one["id"])
    assert "\x1b" not in listed.out + listed.err + shown.out + shown.err
    assert r"from 2026/11/22/a\x1b[2K.gz" in listed.out
    assert r"2026/11/22/a\x1b[2K.gz, etag" in shown.out
    assert r"}\x1b]0;owned\x07\u202e" in shown.out
    assert cli("quarantine", "show", one["id"], "--json").json()[0]["text"] == "}\x1b]0;owned\x07\u202e"


def test_after_it_was_mended(full: Project, cli: CommandLine, received: Path) -> None:
    """`retry` gives chosen records to the next run, which delivers what was fixed and quarantines the rest again."""
    full.config["limits"] = {"max_depth": 3}
    (stretches,) = cli("quarantine", "list", "--day", "2026-11-22", "--json").json()
    done = cli("quarantine", "retry", stretches["id"])
    assert (done.code, done.out) == (
        0,
        "the next run retries 2 malformed records; start it now: export-pipeline run\n",
    )
    assert cli("quarantine", "list", "--day", "2026-11-22").out == "nothing waits in the quarantine\n"
    assert cli("run").code == 0
    assert b'{"d":{"e":{}}}' in receivers.events("picky", received)
    (again,) = cli("quarantine", "list", "--day", "2026-11-22", "--json").json()
    assert again["records"] == 1
    assert full.imbalances() == []


def test_all_of_it_or_a_day(full: Project, cli: CommandLine) -> None:
    """`retry` takes a day, or everything; a file that was given up is tried as if for the first time."""
    done = cli("quarantine", "retry", "--day", "2026-11-23")
    assert done.out.startswith("the next run retries 1 refused event, 1 file;")
    assert cli("quarantine", "retry", "--all").out.startswith("the next run retries 2 malformed records;")
    assert cli("quarantine", "retry", "--all").out == "nothing to retry\n"
    assert cli("status", "--json").json()["subscribers"][0]["owed_files"] == 4


def test_what_is_not_there(full: Project, cli: CommandLine) -> None:
    """An id that is none, a wrong day, and a retry of nothing in particular are wrong usage."""
    for wrong in (["show", "2026-11-22/nothing"], ["show", "../ledger.db"], ["list", "--day", "2026-11"], ["retry"]):
        assert cli("quarantine", *wrong).code == 2
    assert cli("quarantine", "retry", "--all", "--day", "2026-11-22").code == 2
    assert "`export-pipeline quarantine list` shows what is" in cli("quarantine", "show", "nothing").err
