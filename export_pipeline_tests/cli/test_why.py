"""``export-pipeline why``: the life of a file, and every reason why one was not taken."""

import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from export_pipeline.cli.reasons import keys_meant
from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.location import parse_location
from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration.project import Project

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
PICKY = {"type": "python", "function": "export_pipeline_tests.integration.receivers:picky", "retry_for_seconds": 0}
KEY = "2026/11/23/00/000.gz"


def codes(cli: CommandLine, key: str, *, code: int = 0) -> list[str]:
    """The codes of the answers."""
    done = cli("why", key, "--json")
    assert done.code == code, done.err
    return [answer["code"] for answer in done.json()["answers"]]


def test_the_life_of_a_file(project: Project, cli: CommandLine, received: Path) -> None:
    """When and by which run it was planned, in which manifest, and who got it when, by which run, or not yet."""
    project.config["subscribers"]["crm"] = CRM
    (received / "crm.fails").touch()
    project.put_days("23")
    run = project.run()
    story = cli("why", KEY, "--json").json()
    (life,) = story["lives"]
    assert story["there"]["key"] == life["file"]["key"] == KEY
    assert set(life["file"]) == {"key", "etag", "size_bytes", "last_modified"}
    manifest = life["manifest"]
    assert (manifest["planned_by_run"], manifest["state"], manifest["files"]) == (run.run_id, "read", 2)
    assert manifest["planned_at"] <= manifest["read_at"]
    assert (manifest["batches"], manifest["batches_with_file"]) == (1, [0])
    copy, crm = life["deliveries"]
    assert (copy["subscriber"], copy["state"], copy["run_id"]) == ("copy", "delivered", run.run_id)
    assert copy["delivered_at"] >= manifest["read_at"]
    assert (crm["subscriber"], crm["state"], crm["attempts"], crm["accepted_batches"]) == ("crm", "owed", 1, 0)
    assert "503: down for maintenance" in crm["last_error"]
    assert [answer["code"] for answer in story["answers"]] == ["delivered", "owed"]
    shown = cli("why", KEY).out
    for text in (run.run_id, manifest["id"], "it was delivered to copy", "it is still owed to crm", "0/1", "503: down"):
        assert text in shown


def test_only_the_batches_that_hold_its_events(project: Project, cli: CommandLine) -> None:
    """Of a manifest cut into many batches, those are named that hold events of the file."""
    project.config["batch"] = {"max_events": 2}
    project.put_days("23", files=3, events=2)
    project.run()
    story = cli("why", "2026/11/23/00/001.gz", "--json").json()
    assert story["lives"][0]["manifest"]["batches_with_file"] == [1]
    assert (
        f"those of this file are in batch {story['lives'][0]['manifest']['id']}-1"
        in cli("why", "2026/11/23/00/001.gz").out
    )


def test_what_of_it_is_quarantined(project: Project, cli: CommandLine, received: Path) -> None:
    """Malformed records of the file are shown with place and reason, refused events with the subscriber that refused
    them.
    """
    project.config["subscribers"] = {"picky": PICKY}
    project.put(KEY, [b'{"a":1}', b"{broken", b'{"refuse":1}'])
    project.put("2026/11/23/00/other.gz", [b"{also broken"])
    project.run()
    stretch, refused = cli("why", KEY, "--json").json()["quarantined"]
    assert (stretch["kind"], stretch["offset"], stretch["length"]) == ("stretch", 8, 7)
    assert (refused["kind"], refused["subscriber"], refused["reason"]) == ("refused", "picky", "does not like it")
    shown = cli("why", KEY).out
    assert "7 bytes at offset 8: " in shown
    assert "refused by picky: does not like it" in shown
    assert "also broken" not in shown


def test_what_happened_to_quarantined_records(project: Project, cli: CommandLine) -> None:
    """Records that were retried or dismissed stay in the history of their file, and so does one that came back."""
    project.put(KEY, [b'{"a":1}', b"{broken"])
    project.run()
    (first,) = cli("quarantine", "list", "--json").json()
    cli("quarantine", "retry", first["id"])
    (entry,) = cli("why", KEY, "--json").json()["entries"]
    assert (entry["name"], entry["state"], entry["records"]) == (first["id"], "retried", 1)
    assert f"1 record, retried {entry['changed_at'][:10]}" in cli("why", KEY).out
    project.run()
    (again,) = cli("quarantine", "list", "--json").json()
    assert f"1 record, waiting as {again['id']} since" in cli("why", KEY).out
    cli("quarantine", "dismiss", again["id"], "--why", "a test device", "--by", "ann")
    shown = cli("why", KEY).out
    assert " by ann: a test device" in shown
    assert "waiting as" not in shown


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("lines", [[], [b"{broken"]])
def test_a_file_without_events_was_not_delivered(
    project: Project, cli: CommandLine, lines: list[bytes], beside: bool
) -> None:
    """An empty file, or one whose records are all quarantined, is reported as such, alone or with valid files."""
    project.put(KEY, lines)
    if beside:
        project.put("2026/11/23/00/other.gz", [{"a": 1}])
    run = project.run()
    assert codes(cli, KEY) == ["no_events"]
    done = cli("why", KEY)
    assert "contains no valid events: there was nothing to deliver" in done.out
    assert "delivered" not in done.out
    assert ("quarantine list --manifest" in done.out) is bool(lines)
    assert any("accepted" in message for message in run.messages("info")) is beside
    assert ("nothing yet" in cli("status").out) is not beside


def test_a_file_that_changed_has_two_lives(project: Project, cli: CommandLine) -> None:
    """A file that came again with other content is shown twice; one whose new content is not listed yet is marked."""
    project.put(KEY, [{"a": 1}])
    project.run()
    project.put(KEY, [{"a": 2}, {"a": 3}])
    assert codes(cli, KEY) == ["delivered", "replaced"]
    assert "the next listing finds it" in cli("why", KEY).out
    project.run()
    assert codes(cli, KEY) == ["delivered"]
    assert len(cli("why", KEY, "--json").json()["lives"]) == 2


def test_a_file_that_is_gone(project: Project, cli: CommandLine) -> None:
    """A file that was delivered and removed from the source is still known."""
    project.put(KEY, [{"a": 1}])
    project.run()
    (project.bucket / KEY).unlink()
    assert codes(cli, KEY) == ["delivered", "gone"]


def test_a_source_that_does_not_answer_hides_nothing(project: Project, cli: CommandLine) -> None:
    """What the ledger knows is shown even if the source cannot be listed; a file it does not know is then an error."""
    project.put(KEY, [{"a": 1}])
    project.run()
    shutil.rmtree(project.bucket)
    done = cli("why", KEY)
    assert done.code == 0
    assert "In source     unknown: " in done.out
    assert "it was delivered to copy" in done.out
    done = cli("why", "2026/11/23/00/unknown.gz")
    assert done.code == 1
    assert done.err.startswith("error: ")


def test_unreadable_then_given_up(project: Project, cli: CommandLine) -> None:
    """An unreadable file says how often it was tried and why it failed; once given up, how to try again."""
    project.config["max_attempts"] = 2
    project.put_bytes(KEY, b"\x1f\x8b\x08 no gzip", compress=False)
    project.run()
    assert codes(cli, KEY) == ["unreadable"]
    assert "it could not be read 1 time, later runs retry it: " in cli("why", KEY).out
    project.run()
    story = cli("why", KEY, "--json").json()
    assert [answer["code"] for answer in story["answers"]] == ["given_up"]
    assert [record["kind"] for record in story["quarantined"]] == ["file"]
    assert "export-pipeline quarantine retry" in cli("why", KEY).out


def test_new_content_that_no_listing_will_take(project: Project, cli: CommandLine) -> None:
    """New content is not promised for a listing that starts after it, or if it is ignored; the sensor's name has the
    prefix.
    """
    old = "2026/11/02/00/old.gz"
    project.put(old, [{"a": 1}])
    project.put(KEY, [{"a": 1}])
    project.run()
    project.config["prefix"] = "web"
    project.put(old, [{"a": 2}, {"a": 3}])
    done = cli("why", old)
    assert "the next listing finds it" not in done.out
    assert "the next listing starts at 2026/11/" in done.out
    assert "dagster sensor cursor web_new_files --set 2026/11/02" in done.out
    project.config["source"]["on_overwrite"] = "ignore"
    done = cli("why", old)
    assert "ignored: on_overwrite is ignore" in done.out
    assert "sensor cursor" not in done.out


def test_known_keys_that_are_ignored(project: Project, cli: CommandLine) -> None:
    """New content under a known key, with `on_overwrite: ignore`, is shown as ignored."""
    project.config["source"]["on_overwrite"] = "ignore"
    project.put(KEY, [{"a": 1}])
    project.run()
    project.put(KEY, [{"a": 2}, {"a": 3}])
    project.run()
    assert codes(cli, KEY) == ["ignored"]
    assert "seen and ignored: known key with new content; on_overwrite: ignore" in cli("why", KEY).out


NOT_TAKEN = {
    "logs/2026/11/23/a.gz": "no_date",
    "2026/02/30/a.gz": "no_date",
    "2025/12/31/a.gz": "before_start_date",
    "2026/11/01/late.gz": "before_next_listing",
    "2026/11/23/00/new.gz": "not_listed_yet",
    "2026/11/23/00/.hidden.gz": "left_out",
    "2026/11/23/00/half.gz.part": "left_out",
}


def test_why_a_file_was_not_taken(project: Project, cli: CommandLine) -> None:
    """For each file that no run took, the rule is named that kept it out; the next run takes what was promised only."""
    project.config["source"]["start_date"] = "2026-01-01"
    project.put_days("23")
    project.run()
    for key in NOT_TAKEN:
        project.put(key, [{"a": 1}])
    assert {key: codes(cli, key) for key in NOT_TAKEN} == {key: [code] for key, code in NOT_TAKEN.items()}
    project.run()
    known = {key for key in NOT_TAKEN if cli("why", key, "--json").json()["lives"]}
    assert known == {"2026/11/23/00/new.gz"}


def test_before_the_next_listing_tells_from_where_and_what_to_do(project: Project, cli: CommandLine) -> None:
    """For a late file beyond the lookback, the start of the next listing is shown, and how to list its day again; that
    does not deliver it to a subscriber that starts after it. Done as described, the next run takes it.
    """
    project.put_days("23")
    project.run()
    project.put("2026/11/01/late.gz", [{"a": 1}])
    out = cli("why", "2026/11/01/late.gz").out
    assert "the listing is past it, and the next listing starts at 2026/11/21" in out
    assert "dagster sensor cursor new_files --set 2026/11/01" in out
    assert "replay" not in out
    project.set_cursor("2026/11/01")
    assert codes(cli, "2026/11/01/late.gz") == ["not_listed_yet"]
    project.run()
    assert codes(cli, "2026/11/01/late.gz") == ["delivered"]


def test_the_past_of_a_new_subscriber_is_not_called_late(project: Project, cli: CommandLine) -> None:
    """A file that waits for a listing of the past, which a later subscriber wants, is said to wait for a run."""
    project.config |= {"start_from": "2026-11-23", "max_files": 1}
    project.put_days("01", "23", files=1)
    project.run()
    project.put("2026/11/02/00/000.gz", [{"a": 1}])
    project.config["subscribers"]["second"] = {**project.config["subscribers"]["copy"], "since": "beginning"}
    project.config["subscribers"]["second"]["url"] = str(project.root / "second")
    project.run()
    assert codes(cli, "2026/11/02/00/000.gz") == ["not_listed_yet"]


def test_before_every_subscriber(project: Project, cli: CommandLine) -> None:
    """A file before the start of every subscriber names their starts; without any subscriber, that is the reason."""
    project.config["subscribers"]["copy"]["since"] = "2026-11-23"
    project.put_days("20", "23")
    project.run()
    assert codes(cli, "2026/11/20/00/000.gz") == ["before_subscribers"]
    assert "copy from 2026-11-23" in cli("why", "2026/11/20/00/000.gz").out
    project.config["subscribers"] = {}
    assert codes(cli, "2026/11/20/00/000.gz") == ["no_subscriber"]


def test_before_the_first_run(project: Project, cli: CommandLine) -> None:
    """Before any run, start_from decides what the first one takes."""
    project.put_days("20")
    assert codes(cli, "2026/11/20/00/000.gz") == ["not_listed_yet"]
    project.config["start_from"] = "2026-11-21"
    assert codes(cli, "2026/11/20/00/000.gz") == ["before_start_from"]
    project.config["start_from"] = "now"
    assert codes(cli, "2026/11/20/00/000.gz") == ["before_start_from"]
    project.config["start_from"] = "2026-11-20"
    assert codes(cli, "2026/11/20/00/000.gz") == ["not_listed_yet"]


def test_more_than_a_run_takes_and_switched_off(project: Project, cli: CommandLine) -> None:
    """A file behind max_files waits for the next run; with `enabled: false` only a run by hand takes it."""
    project.config["max_files"] = 1
    project.put_days("23", files=3)
    project.run()
    out = cli("why", "2026/11/23/00/002.gz").out
    assert "the last listing stopped at max_files before it, the next run will find it" in out
    project.config["enabled"] = False
    assert "only a run started by hand will" in cli("why", "2026/11/23/00/002.gz").out


def test_a_key_that_is_nowhere(project: Project, cli: CommandLine) -> None:
    """A key that neither source nor ledger knows is an exit code of 1, with keys that look alike."""
    project.put_days("23")
    done = cli("why", "2026/11/23/00/00.gz")
    assert done.code == 1
    assert "there is no such file in file://" in done.out
    assert "2026/11/23/00/000.gz" in done.out


def test_every_way_to_name_a_file(project: Project, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, a URL, an absolute and a relative path mean the same file; a URL of another place is refused."""
    project.put(KEY, [{"a": 1}])
    project.run()
    monkeypatch.chdir(project.root)
    for spelling in (KEY, f"/{KEY}", (project.bucket / KEY).as_uri(), str(project.bucket / KEY), f"bucket/{KEY}"):
        assert cli("why", spelling, "--json").json()["key"] == KEY
    done = cli("why", "s3://other/key.gz")
    assert done.code == 2
    assert "allowed: a URL below this deployment's source, file://" in done.err


def test_an_error_does_not_order_the_terminal_about(cli: CommandLine) -> None:
    """The error shows what the user pasted, escaped as Python writes it."""
    done = cli("why", "s3://other/key\x1b[2K.gz")
    assert done.code == 2
    assert "\x1b" not in done.out + done.err
    assert r"key\x1b[2K.gz" in done.err


@pytest.mark.parametrize(
    ("text", "source", "keys"),
    [
        ("2026/a.gz", "s3://acme/events/", ["2026/a.gz"]),
        ("events/2026/a.gz", "s3://acme/events/", ["2026/a.gz", "events/2026/a.gz"]),
        ("s3://acme/events/2026/a.gz", "s3://acme/events/", ["2026/a.gz"]),
        ("s3://acme/events/2026/a.gz", "arn:aws:s3:::acme/events", ["2026/a.gz"]),
        ("arn:aws:s3:::acme/events/2026/a b.gz", "s3://acme/events", ["2026/a b.gz"]),
        ("s3://acme/2026/ä.gz", "s3://acme", ["2026/ä.gz"]),
        ("gs://acme/2026/a.gz", "gs://acme", ["2026/a.gz"]),
    ],
)
def test_keys_of_buckets(text: str, source: str, keys: list[str]) -> None:
    """A key can be given with or without the source's prefix, as a URL or as an ARN."""
    assert keys_meant(text, parse_location(source)) == keys


@pytest.mark.parametrize(
    "text", ["s3://acme/events", "s3://acme/other/a.gz", "s3://acme2/events/a", "gs://acme/events/a", "/"]
)
def test_what_is_not_in_the_bucket_is_refused(text: str) -> None:
    """What is outside the source, or is not a file, is refused."""
    with pytest.raises(ConfigurationError):
        keys_meant(text, parse_location("s3://acme/events/"))


def test_a_cursor_in_the_future_hides_nothing(project: Project, cli: CommandLine) -> None:
    """The next listing begins no later than now less the lookback, even behind a file dated in the future."""
    later = datetime.now(timezone.utc) + timedelta(days=40)
    project.put(f"{later:%Y/%m/%d}/a.gz", [{"a": 1}])
    project.run()
    today = f"{datetime.now(timezone.utc):%Y/%m/%d}/b.gz"
    project.put(today, [{"a": 1}])
    assert codes(cli, today) == ["not_listed_yet"]
    project.run()
    assert codes(cli, today) == ["delivered"]


def test_an_ignored_name_is_told_with_its_pattern(project: Project, cli: CommandLine) -> None:
    """The reason names the pattern of source.ignore; without patterns the file is one that a run will find."""
    name = "2026/11/23/00/000.gz.6eF5b4dA"
    project.put(name, [{"n": 1}])
    project.run()
    assert codes(cli, name) == ["left_out"]
    assert ".{json,jsonl,ndjson" in cli("why", name).out
    assert codes(cli, "2026/11/23/00/_temporary/0/x.gz") == ["left_out"]
    project.config["source"]["ignore"] = []
    assert codes(cli, name) == ["not_listed_yet"]
