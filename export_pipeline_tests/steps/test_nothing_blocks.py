"""Whatever the oldest files do, new ones come with the next run, and what does not come is named."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pytest

from export_pipeline.batching import reading
from export_pipeline.errors import (
    FileArchived,
    FileCorrupt,
    FileError,
    FileForbidden,
    FileGone,
    FileUnreachable,
    LedgerError,
)
from export_pipeline.ledger import history, inspection, owed, subscriptions
from export_pipeline.ledger.inspection import unreadable_files
from export_pipeline.source import compression, local
from export_pipeline.source.file import ReadLimits, SourceFile
from export_pipeline.steps.completeness import compare
from export_pipeline.steps.read import ensure_staged
from export_pipeline_tests.steps.exporting import NOW
from export_pipeline_tests.steps.running import Receiver, Runs, without

NEW = tuple(f"2026/11/22/{n}.json" for n in range(5))


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Runs]:
    made = Runs(tmp_path, ledger_url)
    made.max_files, made.max_retries = 10, 1
    yield made
    made.ledger.close()


def old(files: int) -> tuple[str, ...]:
    """Keys of an old day, in order."""
    return tuple(f"2026/11/21/{n:03}.json" for n in range(files))


@contextmanager
def raising(error: Callable[[str], BaseException], *, at: tuple[str, ...]) -> Iterator[None]:
    """Inside the block the store answers with an error for the files under these keys."""
    allowed = local.LocalSource.read_range

    def read_range(self: local.LocalSource, file: SourceFile, start: int, stop: int) -> bytes:
        if file.key in at:
            raise error(file.key)
        return allowed(self, file, start, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.LocalSource, "read_range", read_range)
        yield


@pytest.mark.parametrize(
    ("kind", "manifest_files"),
    [
        (FileArchived, 1),
        (FileForbidden, 100),
        (FileUnreachable, 1),
        (FileGone, 100),
        (FileCorrupt, 1),
        # The other size of each kind.
        pytest.param(FileArchived, 100, marks=pytest.mark.thorough),
        pytest.param(FileForbidden, 1, marks=pytest.mark.thorough),
        pytest.param(FileUnreachable, 100, marks=pytest.mark.thorough),
        pytest.param(FileGone, 1, marks=pytest.mark.thorough),
        pytest.param(FileCorrupt, 100, marks=pytest.mark.thorough),
    ],
)
def test_new_files_come_in_the_next_run_whatever_the_oldest_do(
    export: Runs, kind: type[FileError], manifest_files: int
) -> None:
    """More files than a run takes that cannot be read, whatever the reason, do not keep back what is new."""
    export.limit(manifest_files)
    keys = old(30)
    export.put_events(*keys)
    with raising(lambda key: kind(key, "no"), at=keys):
        for _ in range(4):
            export.work()
        export.put_events(*NEW)
        export.work()
        assert export.got("crm") == [*NEW]
        export.put_events("2026/11/23/late.json")
        export.work()
    assert export.got("crm") == [*NEW, "2026/11/23/late.json"]


@pytest.mark.parametrize("manifest_files", [1, 100])
def test_an_outage_gives_up_nothing_and_ends_by_itself(export: Runs, manifest_files: int) -> None:
    """While a store refuses every file none is given up, however many tries; afterwards all come, the oldest first."""
    export.limit(manifest_files)
    keys = old(12)
    export.put_events(*keys)
    with raising(lambda key: FileForbidden(key, "denied"), at=keys):
        for _ in range(5):
            export.work()
    for _ in range(20):
        if not export.work() and not export.owed("crm"):
            break
    assert sorted(export.got("crm")) == [*keys]
    assert (export.records(), export.imbalances()) == ([], [])


def test_refused_files_are_given_up_at_last_beside_new_ones(export: Runs) -> None:
    """Files that the store refuses for ever are given up one by one while others can be read, each with its reason."""
    keys = old(3)
    export.put_events(*keys)
    with raising(lambda key: FileForbidden(key, "denied"), at=keys):
        for n in range(12):
            export.put_events(f"2026/11/22/{n}.json")
            export.work()
    assert sorted((record.key, record.reason) for record in export.records()) == [(key, "denied") for key in keys]
    assert len(export.got("crm")) == 12
    assert export.owed("crm") == []


class PanicException(BaseException):
    """As pyo3 raises it."""


ERRORS = (
    MemoryError(),
    RecursionError("too deep"),
    OverflowError("too large"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    pa.ArrowNotImplementedError("no such type"),
    ZeroDivisionError("a defect"),
    PanicException("called unwrap on None"),
)


# Each error and each stage; at night each error at each stage.
@pytest.mark.parametrize(
    ("where", "error"),
    [
        pytest.param(
            where,
            error,
            id=f"{where}-{type(error).__name__}",
            marks=[] if where == "Cutter" or isinstance(error, PanicException) else pytest.mark.thorough,
        )
        for where in ("fetch", "decompress", "Framer", "Cutter")
        for error in ERRORS
    ],
)
def test_whatever_a_reader_raises_is_the_error_of_its_file(
    tmp_path: Path, error: BaseException, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of any kind, at any stage, sets the file apart under its key; its neighbours come in the same run."""
    export = Runs(tmp_path, str(tmp_path / "ledger.db"))
    keys = old(3)
    export.put_events(*keys)

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    if where == "decompress":
        unpack = compression.decompress
        monkeypatch.setattr(
            reading,
            "decompress",
            lambda chunks, key, **more: (fail if key == keys[1] else unpack)(chunks, key=key, **more),
        )
    elif where in ("Framer", "Cutter"):
        name = "feed" if where == "Framer" else "add"
        kind = getattr(reading, where)
        works = getattr(kind, name)

        def feed(self: object, piece: Any, **more: object) -> object:
            return fail() if keys[1].encode() in bytes(getattr(piece, "text", piece)) else works(self, piece, **more)

        monkeypatch.setattr(kind, name, feed)
    with raising(lambda _: error, at=(keys[1],) if where == "fetch" else ()):
        (failure,) = export.work()
        assert type(error).__name__ in failure
        assert export.got("crm") == [keys[0], keys[2]]
        export.work()
    assert [(record.kind, record.key) for record in export.records()] == [("file", keys[1])]
    assert export.imbalances() == []
    export.ledger.close()


def test_a_file_that_kills_its_reader_is_found_and_given_up(export: Runs) -> None:
    """A file whose reading ends the process is isolated, and given up by itself; all others come, new ones at once."""
    keys = old(6)
    export.put_events(*keys)
    killer = keys[4]
    assert export.work_and_die(killer)
    export.put_events(*NEW)
    runs = 0
    while export.owed("crm") and runs < 16:
        export.work_and_die(killer)
        if runs == 0:
            assert export.kept("crm") == [*NEW]
        runs += 1
    assert export.kept("crm") == export.kept("dwh") == [*(key for key in keys if key != killer), *NEW]
    (record,) = export.records()
    assert (record.kind, record.key) == ("file", killer)
    assert record.reason.startswith("run run-")
    assert "died while it read this file alone, in attempt 2" in record.reason
    assert export.imbalances() == []


def test_a_run_that_is_killed_for_another_reason_gives_up_nothing(export: Runs) -> None:
    """However often runs are killed as they read sound files, these are delivered as soon as a run may live."""
    keys = old(3)
    export.put_events(*keys)
    deaths = sum(export.work_and_die(*keys) for _ in range(5))
    assert deaths == 4  # the third run divided what the first two had read, and read nothing
    for _ in range(3):
        export.work()
    assert sorted(export.got("crm")) == [*keys]
    assert (export.records(), export.owed("crm")) == ([], [])


def test_a_run_that_is_ended_while_it_reads_counts_nothing(export: Runs) -> None:
    """A user who terminates a run ends a reading that the next run starts again, undivided."""
    export.put_events(*old(3))
    with raising(lambda _: KeyboardInterrupt(), at=old(1)), pytest.raises(KeyboardInterrupt):
        export.work()
    assert export.work() == []
    assert export.notes == []
    assert len(export.receivers["crm"].batches) == 1


def test_what_a_kill_divided_says_so(export: Runs) -> None:
    """A manifest that was divided since its reader died is named, with the run and what comes of it."""
    export.put_events(*old(3))
    assert export.work_and_die(old(1)[0])
    assert export.work_and_die(old(1)[0])
    assert export.work() == []
    (note,) = export.notes
    assert note.endswith(
        "of 3 files was divided into 3, which the next runs read separately: run run-2 died while it read it"
    )


def test_one_kill_divides_nothing(export: Runs) -> None:
    """A run that was killed once while it read is made up for by the next one, with the batches of before."""
    export.put_events(*old(3))
    assert export.work_and_die(old(1)[0])
    assert export.work() == []
    assert export.notes == []
    assert len(export.receivers["crm"].batches) == 1


def accepted_in_part(export: Runs, files: int, events: int, batch_events: int, accepted: int) -> list[str]:
    """crm has got a manifest, dwh its first batches; returns the events of all files, in order."""
    export.max_files = 100
    export.settings = replace(export.settings, limits=replace(export.settings.limits, max_events=batch_events))
    lines = []
    for key in old(files):
        of_file = [f'{{"event":"{key}#{n}"}}' for n in range(events)]
        export.put(key, text="\n".join(of_file) + "\n")
        lines += [f"{key}#{n}" for n in range(events)]
    export.receivers["dwh"].room = accepted
    export.work()
    assert export.got("crm") == lines
    assert export.got("dwh") == lines[: batch_events * accepted]
    export.receivers["dwh"].room = None
    return lines


# At night each other pair.
@pytest.mark.parametrize(
    ("accepted", "lost"),
    [
        pytest.param(accepted, lost, marks=[] if lost == 1 or accepted == 2 else pytest.mark.thorough)
        for accepted in range(5)
        for lost in range(3)
    ],
)
def test_no_event_comes_under_two_ids_where_a_file_is_lost_halfway(tmp_path: Path, accepted: int, lost: int) -> None:
    """Who had accepted some batches gets each other event that can be read, once; the file's return brings the rest."""
    export = Runs(tmp_path, str(tmp_path / "ledger.db"))
    lines = accepted_in_part(export, files=3, events=5, batch_events=3, accepted=accepted)
    key = old(3)[lost]
    with without(export, key):
        for _ in range(5):
            export.work()
        got = export.got("dwh")
        assert len(set(got)) == len(got)
        assert sorted(got) == sorted(
            line for n, line in enumerate(lines) if not line.startswith(key) or n < 3 * accepted
        )
        assert export.owed("dwh") == []
    is_lost = any(line.startswith(key) for line in lines[3 * accepted :])
    assert [record.key for record in export.records()] == [key] * is_lost
    export.retry()
    for _ in range(3):
        export.work()
    assert sorted(export.got("dwh")) == sorted(lines)
    assert export.got("crm") == lines
    assert export.imbalances() == []
    export.ledger.close()


def test_another_loss_in_a_part_leaves_its_neighbours_alone(export: Runs) -> None:
    """A part is a manifest like any other: a file of it that is lost later is set apart and given up by itself."""
    lines = accepted_in_part(export, files=4, events=5, batch_events=3, accepted=2)
    first, second = old(4)[1], old(4)[3]
    with without(export, first):
        export.work()
        export.work()
        with raising(lambda key: FileGone(key, "gone, too"), at=(second,)):
            export.work()
            export.work()
    got = export.got("dwh")
    assert sorted(got) == sorted(line for n, line in enumerate(lines) if not line.startswith((first, second)) or n < 6)
    assert sorted(record.key for record in export.records()) == [first, second]
    export.retry()
    for _ in range(3):
        export.work()
    assert sorted(export.got("dwh")) == sorted(lines)
    assert export.imbalances() == []


def test_a_newcomer_gets_what_is_sound_of_a_manifest_that_lost_a_file(export: Runs) -> None:
    """Who begins later gets the sound files and no other's events; the lost file is given up for it by name."""
    lines = accepted_in_part(export, files=3, events=5, batch_events=3, accepted=2)
    key = old(3)[1]
    export.subscribers["late"] = "beginning"
    export.receivers["late"] = Receiver(export.folder / "got-late")
    with without(export, key):
        for _ in range(5):
            export.work()
    assert sorted(export.got("late")) == sorted(line for line in lines if not line.startswith(key))
    assert {record.key for record in export.records()} == {key}
    assert export.owed("late") == export.owed("dwh") == []
    assert export.imbalances() == []


def test_limits_stay_with_what_was_read(export: Runs) -> None:
    """Limits that changed between two readings of a manifest change nothing about its batches."""
    keys = old(2)
    export.put(keys[0], text='{"key":"a"}\n{"key":"b","deep":{"er":{"and":{}}}}\n')
    export.put(keys[1], text='{"key":"c"}\n')
    export.receivers["dwh"].is_down = True
    export.work()
    export.receivers["dwh"].is_down = False
    export.limits = ReadLimits(max_depth=2)
    assert export.work() == []
    assert export.got("dwh") == export.got("crm") == ["a", "b", "c"]
    assert [one.id for one in export.receivers["dwh"].batches] == [one.id for one in export.receivers["crm"].batches]


def test_a_second_reading_that_differs_is_no_end(export: Runs) -> None:
    """Where batches cannot be made again, who has got none of them gets the events under other ids after all tries."""
    key = old(1)[0]
    export.put(key, text='{"key":"one"}\n')
    export.receivers["dwh"].is_down = True
    export.work()
    export.receivers["dwh"].is_down = False
    path = export.bucket / key
    there = path.stat()
    path.write_text('{"key":"two"}\n')
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))
    (first,) = export.work()
    assert first.endswith("so its batches cannot be recreated; attempt 1 of 2")
    (second,) = export.work()
    assert "stay owed to dwh, as" in second
    assert export.work() == []
    assert (export.got("crm"), export.got("dwh"), export.owed("dwh")) == (["one"], ["two"], [])


def test_an_error_that_is_no_files_does_not_hold_back_others(export: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong beside the files, as in staging, fails the run, and what was never tried still comes."""
    keys = old(30)
    export.put_events(*keys)
    put = export.staging.put

    def refuse(manifest: str, n: int, *parts: bytes | memoryview) -> None:
        if any(b"/21/" in bytes(part) for part in parts):
            raise LedgerError("staging is full")
        put(manifest, n, *parts)

    monkeypatch.setattr(export.staging, "put", refuse)
    for _ in range(3):
        assert "staging is full" in export.work()
    export.put_events(*NEW)
    export.work()
    assert export.got("crm") == [*NEW]


def test_what_is_told_of_a_split_manifest_is_true_of_each_file(export: Runs) -> None:
    """`why`, `status` and the check of completeness report what happened to each file, not to its manifest."""
    accepted_in_part(export, files=4, events=5, batch_events=5, accepted=1)
    keys = old(4)
    with without(export, keys[2]):
        for _ in range(4):
            export.work()
    with export.ledger.read() as tx:
        told = {
            key: {one.subscriber: one.state for life in history.lives(tx, 1, [key]) for one in life.deliveries}
            for key in keys
        }
        given_up = {one.subscriber: one.given_up_files for one in inspection.standings(tx, 1)}
        account = inspection.account(tx, 1)
    sound = {"crm": "delivered", "dwh": "delivered"}
    assert told == {keys[0]: sound, keys[1]: sound, keys[2]: {"crm": "delivered", "dwh": "given_up"}, keys[3]: sound}
    assert given_up == {"crm": 0, "dwh": 1}
    assert (account.given_up_files, account.unread_files, account.events_batched) == (1, 0, 20)
    day = date(2026, 11, 21)
    tallies = compare(
        export.source,
        export.ledger,
        export.settings,
        first_day=day,
        last_day=day,
        wanted=["crm", "dwh"],
        due_before=NOW + timedelta(days=36_500),
    ).subscribers
    assert {name: (one.delivered, one.given_up, one.overdue) for name, one in tallies.items()} == {
        "crm": (4, 0, 0),
        "dwh": (3, 1, 0),
    }
    assert tallies["dwh"].given_up_keys == [keys[2]]


def test_a_file_of_a_part_that_cannot_be_read_turns_the_run_red(export: Runs) -> None:
    """What a run could not read is reported by name, even if it is in a part of a manifest."""
    accepted_in_part(export, files=3, events=5, batch_events=3, accepted=1)
    with without(export, old(3)[1]):
        export.work()
        export.work()
    with export.ledger.read() as tx:
        found = owed.choose(tx, subscriptions.active(tx, 1), max_files=10, max_retries=1)
    with export.ledger.write() as tx:
        owed.assign(tx, found, subscriptions.active(tx, 1), "run-x")
    with raising(lambda key: FileCorrupt(key, "truncated"), at=(old(3)[2],)):
        ensure_staged(export.place, found[0].id, run_id="run-x")
    with export.ledger.read() as tx:
        (told,) = unreadable_files(tx, 1, [date(2026, 11, 21)], ["run-x"])
    assert (told.key, told.reason, told.attempts, told.is_tried_again) == (old(3)[2], "truncated", 1, True)
