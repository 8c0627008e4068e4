"""When messages leave the queue: once the ledger has their files, and never before; and how many a run takes."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipeline.errors import FileUnreachable, QueueFailed
from export_pipeline.ledger import planning, sources
from export_pipeline.ledger.database import Ledger
from export_pipeline.source.file import SourceFile
from export_pipeline.source.queue import Message
from export_pipeline.steps import messages
from export_pipeline_tests.source.messages import TEST_MESSAGE, of_sns
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.notified.export import Export
from export_pipeline_tests.steps.notified.memory_queue import MemoryQueue


@on_both_databases
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
    monkeypatch.setattr(messages, "LEAST_MESSAGES", 100)
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
            more.append(sources.more_to_list(tx, 1))
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
