"""Finding files by messages, and by a listing now and then: what becomes known, once, and what stays in the queue."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, update

from export_pipeline.batching.objects import open_objects
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.errors import FileUnreachable, QueueFailed
from export_pipeline.ledger import planning
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.planning import PlanLimits
from export_pipeline.source.file import SourceFile
from export_pipeline.source.layout import Layout
from export_pipeline.source.queue import Message
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline.steps import notified
from export_pipeline.steps.backfill import plan_day
from export_pipeline.steps.discover import DiscoverySettings
from export_pipeline.steps.notified import Noticed, Notifications, discover_notified
from export_pipeline.steps.retention import fold_old_days
from export_pipeline_tests.source.messages import TEST_MESSAGE, of_event_bridge, of_s3, of_sns, record
from export_pipeline_tests.steps.memory_queue import MemoryQueue

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
SETTINGS = DiscoverySettings(
    layout=Layout("%Y/%m/%d/%H/"),
    start_date=date(2026, 1, 1),
    lookback=timedelta(hours=26),
    on_overwrite="read",
    start_from="beginning",
    limits=PlanLimits(max_events=10_000, max_bytes=1 << 22, manifest_max_files=100, manifest_max_bytes=1 << 28),
    prefix="",
)


class Export:
    """A bucket in a folder that tells a queue of its files, and a ledger."""

    def __init__(self, folder: Path, ledger_url: str, queue: MemoryQueue) -> None:
        self.bucket = folder / "bucket"
        self.bucket.mkdir(exist_ok=True)
        self.ledger = Ledger(ledger_url)
        self.queue = queue
        self.quarantined = folder / "quarantine"
        self.cursor = ""
        self.settings = SETTINGS
        self.subscribers: dict[str, str | None] = {"crm": None}
        self.source: Source = open_source(SourceSettings(url=str(self.bucket)))
        self.most_keys = 1_000_000

    def put(self, *keys: str, text: str = "{}\n", tell: bool = True) -> list[str]:
        """Write files; returns the messages about them, which are sent, too."""
        bodies = []
        for key in keys:
            path = self.bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            bodies.append(self.message(key))
        if tell:
            self.queue.send(*bodies)
        return bodies

    def message(self, key: str, **changes: Any) -> str:
        file = self.source.find_file(key)
        assert file is not None
        told = {"etag": file.etag, "size": file.size_bytes, "time": file.last_modified.isoformat(), **changes}
        return of_s3(record(key, **told))

    def run(self, *, max_files: int = 100, now: datetime = NOW, list_now: bool = False, **more: Any) -> Noticed:
        notifications = Notifications(
            queue=more.get("queue", self.queue),
            bucket="acme",
            listing_every=DAY,
            quarantine=Quarantine(open_objects(str(self.quarantined))),
            list_now=list_now,
            most_keys=self.most_keys,
        )
        noticed = discover_notified(
            self.source,
            self.ledger,
            self.settings,
            notifications,
            cursor=self.cursor,
            wanted=self.subscribers,
            max_files=max_files,
            run_id="run",
            now=now,
        )
        self.cursor = noticed.found.cursor
        return noticed

    def planned(self) -> list[str]:
        """Every key ever planned, one for each content, in key order."""
        with self.ledger.read() as tx:
            query = select(t.files.c.key).where(t.files.c.manifest_id.is_not(None)).order_by(t.files.c.key)
            return list(tx.execute(query).scalars())

    def files(self) -> list[SourceFile]:
        with self.ledger.read() as tx:
            f = t.files.c
            rows = tx.execute(select(f.key, f.etag, f.size_bytes, f.last_modified).order_by(f.key, f.etag))
            return [SourceFile(*row) for row in rows]


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    made = Export(tmp_path, ledger_url, MemoryQueue())
    yield made
    made.ledger.close()


@pytest.fixture
def listed(export: Export) -> Export:
    """One whose first listing, of an empty bucket, is done."""
    export.run()
    return export


def test_the_first_run_lists(export: Export) -> None:
    """What was in the bucket before there was a queue is found by the first run, which lists; the next one does not."""
    export.put("2026/11/20/00/old", tell=False)
    first, second = export.run(), export.run()
    assert (first.why_listed, first.found.files) == ("it never was listed to its end", 1)
    assert (second.why_listed, second.found.files) == ("", 0)
    assert second.next_listing_at == NOW + DAY


def test_a_file_becomes_known_as_a_listing_shows_it(listed: Export, tmp_path: Path) -> None:
    """By a message the ledger gets key, etag, size and second of arrival that a listing would have given it."""
    keys = ["2026/11/23/10/a", "2026/11/23/11/b+c é%2F", "2026/11/22/23/late"]
    listed.put(*keys)
    assert listed.run().taken.files == 3
    by_listing = [replace(file, last_modified=file.last_modified.replace(microsecond=0)) for file in _listing(listed)]
    assert listed.files() == by_listing
    assert listed.queue.bodies == {}
    assert listed.cursor == ""


def _listing(export: Export) -> list[SourceFile]:
    return list(export.source.list_files())


def test_messages_are_removed_only_after_the_ledger_has_their_files(
    listed: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the first message is removed, another connection sees the file, which is on the disk by then."""
    seen: list[list[str]] = []
    written: list[bool] = []
    write = Ledger.write

    def watched(ledger: Ledger, *, durable: bool = False) -> Any:
        written.append(durable)
        return write(ledger, durable=durable)

    monkeypatch.setattr(Ledger, "write", watched)

    class Watching(MemoryQueue):
        def delete(self, messages: Any) -> int:
            seen.append(listed.planned())
            return super().delete(messages)

    queue = Watching()
    queue.send(*listed.put("2026/11/23/10/a", tell=False))
    listed.run(queue=queue)
    assert (seen, written) == ([["2026/11/23/10/a"]], [True])


def test_what_was_not_removed_comes_again_and_is_known(listed: Export) -> None:
    """A run that dies right before it removes messages has lost nothing, and the next one plans nothing twice."""

    class Dying(MemoryQueue):
        def delete(self, messages: Any) -> int:
            raise KeyboardInterrupt

    queue = Dying()
    queue.send(*listed.put("2026/11/23/10/a", "2026/11/23/10/b", tell=False))
    with pytest.raises(KeyboardInterrupt):
        listed.run(queue=queue)
    again = MemoryQueue()
    again.send(*queue.bodies.values())
    taken = listed.run(queue=again).taken
    assert (taken.files, taken.known, taken.asked, again.bodies) == (0, 2, 0, {})
    assert listed.planned() == ["2026/11/23/10/a", "2026/11/23/10/b"]


def test_what_was_not_planned_comes_again(listed: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies before its plan is written leaves all its messages in the queue."""

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    listed.put("2026/11/23/10/a")
    with monkeypatch.context() as patch:
        patch.setattr(planning, "plan", dies)
        with pytest.raises(KeyboardInterrupt):
            listed.run()
    assert len(listed.queue.bodies) == 1
    listed.queue.come_again()
    assert listed.run().taken.files == 1


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


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30), copies=st.lists(st.integers(0, 9), max_size=30), max_files=st.integers(1, 12))
def test_duplicates_and_disorder_do_no_harm(
    tmp_path_factory: pytest.TempPathFactory, seed: int, copies: list[int], max_files: int
) -> None:
    """However often and in whatever order messages come, plain or wrapped, each file is planned once."""
    folder = tmp_path_factory.mktemp("export")
    export = Export(folder, str(folder / "ledger.db"), MemoryQueue(seed=seed))
    export.run()
    keys = [f"2026/11/{20 + n % 4}/{n:02}/file" for n in range(10)]
    bodies = export.put(*keys)
    export.queue.send(*[of_sns(bodies[n]) if n % 2 else bodies[n] for n in copies])
    for _ in range(60):
        noticed = export.run(max_files=max_files)
        assert noticed.found.files <= max_files
        if not noticed.found.more:
            break
        export.queue.come_again()
    assert export.planned() == sorted(keys)
    assert export.queue.bodies == {}
    export.ledger.close()


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
        run_id="backfill",
        now=NOW,
    )
    noticed = listed.run(list_now=True)
    assert (noticed.why_listed, noticed.found.files) == ("it was asked for", 1)
    assert (noticed.taken.files, noticed.taken.known) == (0, 2)
    assert listed.planned() == ["2026/11/22/10/a", "2026/11/23/10/b"]
    assert listed.queue.bodies == {}


def test_what_was_folded_is_known(export: Export) -> None:
    """A message about a file whose day the ledger has folded is recognised, and new content of its key as well."""
    export.put("2026/11/01/10/a", "2026/11/01/11/b")
    export.run()
    with export.ledger.write() as tx:
        tx.execute(update(t.deliveries).values(state=t.DELIVERED))
        tx.execute(update(t.manifests).values(state=t.READ))
    assert fold_old_days(export.source, export.ledger, keep_days=10, now=NOW) == 1
    export.queue.send(export.message("2026/11/01/10/a"))
    taken = export.run().taken
    assert (taken.known, taken.asked) == (1, 0)
    export.put("2026/11/01/11/b", text='{"second": true}\n')
    noticed = export.run()
    assert (noticed.found.files, noticed.found.overwritten_keys) == (1, ["2026/11/01/11/b"])


def test_new_content_of_a_known_key_is_a_file_of_its_own(listed: Export) -> None:
    """As when listed, it is planned once more and reported; with on_overwrite: ignore it is noted instead."""
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
    """Two messages about one key with two contents: what lies there is taken, whatever the order."""
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


def test_where_the_store_does_not_tell_the_message_stays(listed: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails when asked keeps only those messages in the queue; the others are planned and removed."""
    listed.put("2026/11/23/10/a", "2026/11/23/10/b", tell=False)
    listed.queue.send(listed.message("2026/11/23/10/a", etag=None), listed.message("2026/11/23/10/b"))

    def fails(key: str) -> SourceFile:
        raise FileUnreachable(key, "503 Slow Down")

    with monkeypatch.context() as patch:
        patch.setattr(listed.source, "find_file", fails)
        taken = listed.run().taken
    assert (taken.files, taken.unseen) == (1, {"2026/11/23/10/a": "503 Slow Down"})
    assert len(listed.queue.bodies) == 1
    listed.queue.come_again()
    assert listed.run().taken.files == 1
    assert listed.planned() == ["2026/11/23/10/a", "2026/11/23/10/b"]


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
        of_s3(record("events/2025/12/31/23/a")),
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
    """Where the queue has dead letters, or does not say, such a message stays, is told, and holds up no other."""
    listed.queue.dead_letters = dead_letters
    listed.queue.send("no JSON")
    listed.put("2026/11/23/10/a")
    taken = listed.run().taken
    assert (taken.files, taken.wrong_messages, taken.wrong_are_kept) == (1, 1, False)
    assert taken.wrong == {"message-1": "it is no JSON object"}
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
    assert (kept["reason"], kept["body"]) == ("it names no s3.object.key", of_s3(half, whole))


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


def test_a_store_that_is_down_is_not_asked_for_each_file(listed: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has not answered for some files, the messages of the others stay in the queue without a look."""
    keys = [f"2026/11/23/10/{n:03}" for n in range(200)]
    bodies = listed.put(*keys, tell=False)
    listed.queue.send(*[body.replace("ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload") for body in bodies])
    looked: list[str] = []

    def fails(key: str) -> SourceFile:
        looked.append(key)
        raise FileUnreachable(key, "connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(listed.source, "find_file", fails)
        taken = listed.run(max_files=1_000).taken
    assert (taken.files, taken.unseen_files, len(listed.queue.bodies)) == (0, 200, 200)
    assert len(looked) < 50
    listed.queue.come_again()
    assert listed.run(max_files=1_000).taken.files == 200


def test_messages_that_come_again_while_a_run_takes_them(listed: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes longer than visibility_seconds meets messages again: it plans nothing twice, and it ends."""

    class Hasty(MemoryQueue):
        def receive(self, most: int) -> tuple[list[Message], bool]:
            self.come_again()
            messages, _ = super().receive(min(most, 10))
            return messages, not messages

    queue = Hasty(dead_letters=True)
    queue.send("poison", *listed.put(*[f"2026/11/23/10/{n}" for n in range(25)], tell=False))
    monkeypatch.setattr(notified, "LEAST_MESSAGES", 100)
    noticed = listed.run(queue=queue, max_files=30)
    assert noticed.found.files == 25
    assert queue.bodies == {"message-1": "poison"}
    assert (noticed.taken.messages, noticed.found.more) == (300, True)


def test_a_run_takes_no_more_than_max_files(listed: Export) -> None:
    """250 messages of new files are three runs of 100 each; the queue keeps what is left, and that is known."""
    keys = [f"2026/11/23/00/{n:03}" for n in range(250)]
    listed.put(*keys)
    found, more = [], []
    for _ in range(4):
        found.append(listed.run().found)
        with listed.ledger.read() as tx:
            more.append(planning.more_to_list(tx, 1))
    assert [one.files for one in found] == [100, 100, 50, 0]
    assert more == [one.more for one in found] == [True, True, False, False]
    assert listed.planned() == keys


def test_messages_of_known_files_fill_no_run(export: Export) -> None:
    """After a listing found a backlog, its messages are removed by the next run, many more than max_files at once."""
    export.put(*[f"2026/11/23/10/{n:04}" for n in range(60)])
    first = export.run(max_files=60)
    assert (first.found.files, first.taken.messages, first.found.more) == (60, 0, True)
    second = export.run(max_files=2)
    assert (second.taken.known, second.found.more) == (60, False)


def test_a_run_takes_a_bounded_number_of_messages(listed: Export) -> None:
    """However many messages tell of nothing new, a run takes a thousand at a time, ends, and says there are more."""
    listed.queue.send(*[TEST_MESSAGE] * 12_100)
    noticed = listed.run(max_files=1_200)
    assert (noticed.taken.messages, noticed.found.more) == (12_000, True)
    assert max(listed.queue.requests) == 1_000
    noticed = listed.run(max_files=10)
    assert (noticed.taken.messages, noticed.found.more) == (100, False)


def test_a_daily_listing_fills_gaps(listed: Export) -> None:
    """A file whose message never came is found by the listing of the next day, and by none before."""
    listed.put("2026/11/23/10/lost", tell=False)
    listed.put("2026/11/23/11/told")
    assert listed.run(now=NOW + DAY - timedelta(seconds=1)).found.files == 1
    noticed = listed.run(now=NOW + DAY)
    assert noticed.why_listed == "it was last listed at 2026-11-23 12:00 UTC"
    assert noticed.found.files == 1
    assert listed.planned() == ["2026/11/23/10/lost", "2026/11/23/11/told"]
    assert listed.run(now=NOW + DAY).why_listed == ""


def test_a_clock_that_was_ahead_puts_off_no_listing(listed: Export) -> None:
    """A run by a clock that is a year ahead lists; when the clock is right again, the next run does so, too."""
    listed.run(now=NOW + 365 * DAY)
    listed.put("2026/11/23/11/lost", tell=False)
    noticed = listed.run(now=NOW + timedelta(hours=1))
    assert (noticed.why_listed, noticed.found.files) == ("it was last listed at 2027-11-23 12:00 UTC", 1)
    assert listed.run(now=NOW + timedelta(hours=2)).why_listed == ""


def test_a_long_listing_goes_on_where_it_stopped(export: Export) -> None:
    """A listing that a run cannot end goes on in the next one, behind the last key, and lists no key twice."""
    keys = [f"2026/11/{day:02}/00/{n}" for day in (1, 10, 23) for n in range(4)]
    export.put(*keys, tell=False)
    lists: list[str] = []
    whole = export.source.list_files

    def watched(*, after: str = "", **more: Any) -> Iterator[SourceFile]:
        lists.append(after)
        return whole(after=after, **more)

    export.source.list_files = watched  # type: ignore[method-assign]
    runs = [export.run(max_files=5, now=NOW + timedelta(minutes=n)) for n in range(4)]
    assert [one.found.files for one in runs] == [5, 5, 2, 0]
    assert [one.is_listed_to_the_end for one in runs] == [False, False, True, True]
    assert lists == ["", keys[4], keys[9]]
    assert runs[1].why_listed == "the last listing goes on where it stopped"
    assert runs[3].next_listing_at == NOW + DAY
    assert export.planned() == keys


def test_a_listing_of_many_known_keys_is_cut_too(export: Export) -> None:
    """A run lists a bounded number of keys, also where none is new or none has a date, and gets on each time."""
    export.put(*[f"2026/11/23/00/{n:03}" for n in range(25)], tell=False)
    export.put(*[f"0-junk/{n}" for n in range(12)], tell=False)
    export.run(max_files=1_000)
    export.most_keys = 10
    runs = [export.run(list_now=n == 0, now=NOW) for n in range(4)]
    assert [one.is_listed_to_the_end for one in runs] == [False, False, True, True]
    assert [one.found.more for one in runs] == [True, True, False, False]
    assert sum(one.found.files for one in runs) == 0
    export.cursor = ""
    runs = [export.run(list_now=n == 0, now=NOW) for n in range(5)]
    assert [one.is_listed_to_the_end for one in runs] == [False, False, False, True, True]


def test_a_listing_that_is_asked_for_drops_no_other(export: Export) -> None:
    """One asked for while a long one is under way begins no later than where that one has to go on."""
    export.settings = replace(SETTINGS, start_from="2026-11-23")
    past = [f"2026/10/01/00/{n}" for n in range(6)]
    export.put(*past, "2026/11/23/11/a", tell=False)
    export.run()
    export.subscribers = {"crm": None, "dwh": "beginning"}
    export.run(max_files=2)
    export.run(max_files=2, list_now=True)
    export.run()
    assert export.planned() == [*past, "2026/11/23/11/a"]
    assert export.run().why_listed == ""


def test_a_late_file_behind_a_long_listing_is_found_by_the_next_one(export: Export) -> None:
    """The lookback counts from the beginning of the last listing: what came late while it went on is not missed."""
    export.put("2026/11/23/11/a", "2026/11/23/11/b", tell=False)
    export.run(max_files=1)
    late = "2026/11/22/11/late"
    export.put(late, tell=False)
    export.put("2026/11/23/15/c", tell=False)
    export.run(now=NOW + timedelta(hours=5))
    assert export.cursor == "2026/11/23/15/c"
    assert late not in export.planned()
    export.run(now=NOW + DAY)
    assert late in export.planned()


def test_a_subscriber_that_begins_earlier_causes_a_listing(listed: Export) -> None:
    """Files that no subscriber was owed are listed again for one whose since reaches back to them."""
    listed.subscribers = {"crm": "2026-11-23"}
    listed.put("2026/11/01/00/a")
    listed.run()
    assert listed.planned() == []
    listed.subscribers = {"crm": "2026-11-23", "dwh": "beginning"}
    noticed = listed.run()
    assert noticed.why_listed == "a subscriber begins earlier than before"
    assert listed.planned() == ["2026/11/01/00/a"]


def test_a_run_with_nothing_new_writes_nothing(listed: Export) -> None:
    """Where the queue is empty and no listing due, the ledger is asked, and nothing is written to it."""
    asked: list[str] = []

    @event.listens_for(listed.ledger.engine, "before_cursor_execute")
    def _keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement.split(maxsplit=1)[0])

    noticed = listed.run()
    assert (noticed.found.files, noticed.taken.messages) == (0, 0)
    assert set(asked) <= {"SELECT", "BEGIN"}
    assert len(listed.queue.requests) == 2  # one in each run


def test_a_queue_that_fails_keeps_what_was_planned(listed: Export) -> None:
    """When the queue fails half-way, what the rounds before have planned stays planned, and the run fails."""

    class Failing(MemoryQueue):
        def receive(self, most: int) -> tuple[list[Message], bool]:
            if self.requests:
                raise QueueFailed("the queue failed: 503")
            messages, _ = super().receive(most)
            return messages, False

    queue = Failing()
    queue.send(*listed.put("2026/11/23/10/a", tell=False))
    with pytest.raises(QueueFailed):
        listed.run(queue=queue)
    assert listed.planned() == ["2026/11/23/10/a"]
    assert queue.bodies == {}


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
