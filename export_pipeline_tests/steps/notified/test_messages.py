"""What messages announce becomes known, once, as a listing would have shown it; what is not a file of the source does
not.
"""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, update

from export_pipeline.ledger import deliveries, manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.records import Run
from export_pipeline.source.file import SourceFile
from export_pipeline.source.ignored import NOTHING_IGNORED, Ignored
from export_pipeline.steps.backfill import plan_day
from export_pipeline.steps.retention import fold_old_days
from export_pipeline_tests.source.messages import TEST_MESSAGE, of_event_bridge, of_s3, record
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.notified.export import NOW, SETTINGS, Export


def test_a_file_becomes_known_as_a_listing_shows_it(listed: Export, tmp_path: Path) -> None:
    """By a message the ledger gets key, etag, size and second of arrival that a listing would have given it."""
    keys = ["2026/11/23/10/a", "2026/11/23/11/b+c é%2F", "2026/11/22/23/late"]
    listed.put(*keys)
    assert listed.run().taken.files == 3
    by_listing = [file._replace(last_modified=file.last_modified.replace(microsecond=0)) for file in _listing(listed)]
    assert listed.files() == by_listing
    assert listed.queue.bodies == {}
    assert listed.frontier == ""


def _listing(export: Export) -> list[SourceFile]:
    return list(export.source.list_files())


@on_both_databases
def test_manifests_are_those_of_a_listing(listed: Export) -> None:
    """In whatever disorder messages come, the files of a round are put into manifests in key order."""
    listed.settings = replace(SETTINGS, limits=replace(SETTINGS.limits, manifest_max_files=2))
    keys = [f"2026/11/23/10/{n}" for n in range(6)]
    listed.put(*[keys[n] for n in (4, 1, 5, 0, 3, 2)])
    listed.run()
    with listed.ledger.read() as tx:
        f = t.files.c
        rows = tx.execute(select(f.manifest_id, f.key).order_by(f.key)).all()
    manifests: dict[str, list[str]] = {}
    for row in rows:
        manifests.setdefault(row.manifest_id, []).append(row.key)
    assert list(manifests.values()) == [keys[:2], keys[2:4], keys[4:]]


def test_what_backfill_and_listing_found_is_known(listed: Export) -> None:
    """A file that a backfill or a listing was quicker to find is not planned again by its message."""
    listed.put("2026/11/22/10/a", "2026/11/23/10/b")
    plan_day(
        listed.source,
        listed.ledger,
        listed.settings,
        day=date(2026, 11, 22),
        wanted=listed.subscribers,
        chosen=[],
        again=False,
        run=Run("backfill", NOW),
    )
    noticed = listed.run(list_now=True)
    assert (noticed.why_listed, noticed.found.files) == ("it was requested", 1)
    assert (noticed.taken.files, noticed.taken.known) == (0, 2)
    assert listed.planned() == ["2026/11/22/10/a", "2026/11/23/10/b"]
    assert listed.queue.bodies == {}


def test_what_was_folded_is_known(export: Export) -> None:
    """A message about a file whose day the ledger has folded is recognised, and new content of its key as well."""
    export.put("2026/11/01/10/a", "2026/11/01/11/b")
    export.run()
    with export.ledger.write() as tx:
        tx.execute(update(t.deliveries).values(state=deliveries.DELIVERED))
        tx.execute(update(t.manifests).values(state=manifests.READ))
    assert fold_old_days(export.source, export.ledger, keep_days=10, now=NOW) == 1
    export.queue.send(export.message("2026/11/01/10/a"))
    taken = export.run().taken
    assert (taken.known, taken.asked) == (1, 0)
    export.put("2026/11/01/11/b", text='{"second": true}\n')
    noticed = export.run()
    assert (noticed.found.files, noticed.found.overwritten_keys) == (1, ["2026/11/01/11/b"])


def test_new_content_of_a_known_key_is_a_file_of_its_own(listed: Export) -> None:
    """As when listed, it is planned again and reported; with on_overwrite: ignore it is recorded instead."""
    listed.put("2026/11/23/10/a")
    listed.run()
    listed.put("2026/11/23/10/a", text='{"second": true}\n')
    noticed = listed.run()
    assert (noticed.found.files, noticed.found.overwritten) == (1, 1)
    listed.settings = replace(SETTINGS, on_overwrite="ignore")
    listed.put("2026/11/23/10/a", text='{"third": true}\n')
    noticed = listed.run()
    assert (noticed.found.files, noticed.found.overwritten) == (0, 1)
    assert len(listed.files()) == 3
    assert listed.queue.bodies == {}


def test_a_late_message_about_older_content_is_passed_over(listed: Export) -> None:
    """A message about content that was overwritten, by what is known, makes no file that nobody can read."""
    older = listed.put("2026/11/23/10/a", tell=False)
    listed.put("2026/11/23/10/a", text='{"second": true}\n')
    listed.run()
    listed.queue.send(*older)
    taken = listed.run().taken
    assert (taken.files, taken.known, taken.asked) == (0, 1, 1)
    assert len(listed.planned()) == 1


def test_of_several_contents_in_one_round_the_one_that_is_there_is_planned(listed: Export) -> None:
    """Two messages about one key with two contents: the present content is taken, whatever the order."""
    older = listed.put("2026/11/23/10/a", tell=False)
    newer = listed.put("2026/11/23/10/a", text='{"second": true}\n', tell=False)
    listed.queue.send(*newer, *older)
    noticed = listed.run()
    assert (noticed.found.files, noticed.taken.asked) == (1, 1)
    (file,) = listed.files()
    assert file == listed.source.find_file("2026/11/23/10/a")


@pytest.mark.parametrize(
    "changes", [{"etag": None}, {"size": None}, {"time": None}, {"event": "ObjectCreated:CompleteMultipartUpload"}]
)
def test_the_store_is_asked_for_what_a_message_does_not_tell(listed: Export, changes: dict[str, Any]) -> None:
    """Without etag, size or time, or where the time is not the listing's, the store is asked, and believed."""
    listed.put("2026/11/23/10/a", tell=False)
    listed.queue.send(listed.message("2026/11/23/10/a", **changes))
    taken = listed.run().taken
    assert (taken.files, taken.asked) == (1, 1)
    assert listed.files() == _listing(listed)


def test_a_file_that_is_there_no_longer_is_passed_over(listed: Export) -> None:
    """Where the store has to be asked and has no such file, the message is removed, as nothing would be listed."""
    listed.queue.send(of_s3(record("2026/11/23/10/gone", etag=None)))
    taken = listed.run().taken
    assert (taken.gone, taken.files, listed.queue.bodies) == (1, 0, {})


def test_what_is_no_file_of_this_source_is_counted_and_removed(listed: Export) -> None:
    """Other buckets and folders, removals, test messages, folders' placeholders, undated and old keys make no file."""
    listed.settings = replace(SETTINGS, prefix="events/")
    listed.queue.send(
        TEST_MESSAGE,
        of_s3(record("events/2026/11/23/10/a", bucket="other")),
        of_s3(record("elsewhere/2026/11/23/10/a")),
        of_s3(record("events/2026/11/23/10/a", event="ObjectRemoved:Delete")),
        of_event_bridge("events/2026/11/23/10/a", kind="Object Deleted"),
        of_s3(record("events/2026/11/23/10/")),
        of_s3(record("events/readme.txt")),
        of_s3(record("events/2019/12/31/23/a")),
    )
    noticed = listed.run()
    taken = noticed.taken
    assert (taken.foreign, taken.foreign_keys) == (
        2,
        ["other/events/2026/11/23/10/a", "acme/elsewhere/2026/11/23/10/a"],
    )
    assert dict(taken.other) == {"s3:TestEvent": 1, "ObjectRemoved:Delete": 1, "Object Deleted": 1}
    assert (noticed.found.undated_keys, noticed.found.too_old) == (["readme.txt"], 1)
    assert (taken.files, taken.asked, listed.queue.bodies) == (0, 0, {})


def test_a_key_below_the_prefix_is_known_without_it(listed: Export) -> None:
    """The ledger has the key below the source's URL, as a listing gives it."""
    listed.settings = replace(SETTINGS, prefix="events/")
    listed.queue.send(of_s3(record("events/2026/11/23/10/a")))
    listed.run()
    assert listed.planned() == ["2026/11/23/10/a"]


@pytest.mark.parametrize("dead_letters", [True, None])
def test_a_message_nobody_understands_is_left_to_the_queue(listed: Export, dead_letters: bool | None) -> None:
    """If the queue has a dead-letter queue, or does not say, a malformed message stays, is reported, and blocks no
    other.
    """
    listed.queue.dead_letters = dead_letters
    listed.queue.send("no JSON")
    listed.put("2026/11/23/10/a")
    taken = listed.run().taken
    assert (taken.files, taken.wrong_messages, taken.wrong_are_kept) == (1, 1, False)
    assert taken.wrong == {"message-1": "it is not a JSON object"}
    assert listed.queue.bodies == {"message-1": "no JSON"}
    assert not listed.quarantined.exists()


def test_without_a_dead_letter_queue_it_goes_to_the_quarantine(listed: Export) -> None:
    """There it is kept with the reason, and removed from the queue, which would hand it out for ever."""
    half = record("2026/11/23/10/a")
    del half["s3"]["object"]["key"]
    listed.put("2026/11/23/10/b", tell=False)
    whole = json.loads(listed.message("2026/11/23/10/b"))["Records"][0]
    listed.queue.send(of_s3(half, whole))
    taken = listed.run().taken
    assert (taken.files, taken.wrong_messages, taken.wrong_are_kept) == (1, 1, True)
    assert listed.queue.bodies == {}
    kept = json.loads((listed.quarantined / "notifications" / "message-1.json").read_text())
    assert (kept["reason"], kept["body"]) == ("it has no s3.object.key", of_s3(half, whole))


def test_what_s3_never_sends_keeps_no_file_from_being_planned(listed: Export) -> None:
    """A forged message may name what no index and no sum of the ledger has room for: it holds up nobody."""
    random = Random(1)
    long = "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9_000))
    listed.queue.send(
        of_s3(record(f"2026/11/23/10/{long}")),
        of_s3(record("2026/11/23/10/a\0b")),
        of_event_bridge("2026/11/23/10/\ud800"),
        *[of_s3(record(f"2026/11/23/10/{n}", size=1 << 61)) for n in range(8)],
        of_s3(record("2026/11/23/10/c", etag="x" * 100_000)),
        of_s3(record("2026/11/23/10/d", time="0001-01-01T00:00:00+14:00")),
    )
    listed.put("2026/11/23/10/real")
    taken = listed.run().taken
    assert (taken.wrong_messages, taken.gone) == (3, 10)
    assert listed.planned() == ["2026/11/23/10/real"]
    assert listed.queue.bodies == {}


def test_start_from_now_takes_only_what_arrives_afterwards(export: Export) -> None:
    """What a message tells to have arrived before the subscriber's start is not owed, and its message is removed."""
    export.settings = replace(SETTINGS, start_from="now")
    export.run()
    export.queue.send(
        of_s3(record("2026/11/23/11/old", time="2026-11-23T11:59:59.999Z")),
        of_s3(record("2026/11/23/12/new", time="2026-11-23T12:00:00.001Z")),
    )
    export.run()
    assert export.planned() == ["2026/11/23/12/new"]
    assert export.queue.bodies == {}


def test_ignored_names_are_left_alone(listed: Export) -> None:
    """A message about a name that is still being written, or of a tool, is removed, and the name is counted."""
    listed.source.ignored = NOTHING_IGNORED
    listed.put("2026/11/23/10/a.gz", "2026/11/23/10/b.gz.6eF5b4dA", "2026/11/23/10/_temporary/0/c.gz")
    listed.source.ignored = Ignored()
    taken = listed.run().taken
    assert (taken.messages, taken.files) == (3, 1)
    assert listed.planned() == ["2026/11/23/10/a.gz"]
    assert listed.queue.bodies == {}
    left_out = listed.source.take_left_out()
    assert left_out.ignored == 2
    assert left_out.ignored_keys["2026/11/23/10/_temporary/0/c.gz"] == "_temporary/"
