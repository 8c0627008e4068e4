"""A file that cannot be read holds back nothing but its manifest, and is given up only while others can be read."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from export_pipeline.batching.quarantine import RESOLVED_FOLDER
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.running import Runs, denied, without

OLD = tuple(f"2026/11/21/{n}.json" for n in range(3))
NEW = "2026/11/22/a.json"
GONE = OLD[1]


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Runs]:
    made = Runs(tmp_path, ledger_url)
    yield made
    made.ledger.close()


@pytest.fixture
def lagging(export: Runs) -> Runs:
    """crm has got a manifest of three files, which fills a run; dwh, which was down, is up again and still waits."""
    export.put_events(*OLD)
    export.receivers["dwh"].is_down = True
    assert export.work() == []
    export.receivers["dwh"].is_down = False
    return export


def test_what_is_newer_goes_on_beside_a_manifest_that_waits(lagging: Runs) -> None:
    """Who is still owed a manifest of which a file is gone gets newer files from the next run but one on."""
    with without(lagging, GONE):
        lagging.put_events(NEW)
        (failure,) = lagging.work()
        assert failure.startswith(f"{GONE}: the file does not exist; manifest ")
        assert failure.endswith("attempt 1 of 2, then it is given up, and the other files are delivered without it")
        lagging.work()
    assert lagging.got("dwh") == [NEW]
    assert lagging.got("crm") == [*OLD, NEW]


def test_what_waits_is_delivered_once_its_file_is_back_in_time(lagging: Runs) -> None:
    """A file that is back before all tries are spent lets its manifest be delivered, and nothing is given up."""
    with without(lagging, GONE):
        lagging.work()
    assert lagging.work() == []
    assert lagging.got("dwh") == [*OLD]
    assert (lagging.records(), lagging.imbalances()) == ([], [])
    assert lagging.receivers["dwh"].batches[0].id == lagging.receivers["crm"].batches[0].id


@on_both_databases
def test_what_waits_in_vain_is_given_up_with_a_record(lagging: Runs) -> None:
    """After all attempts only the file is given up, by an error and a record; the readable files arrive anyway."""
    with without(lagging, GONE):
        lagging.work()
        (failure,) = lagging.work()
        (record,) = lagging.records()
        assert lagging.work() == []
        assert lagging.work() == []
    manifest_id = lagging.receivers["crm"].batches[0].id.partition("-")[0]
    part = lagging.receivers["dwh"].batches[0].id.partition("-")[0]
    assert failure == (
        f"{GONE}: the file does not exist; given up for dwh after 2 of 2 attempts, and kept in the quarantine; the "
        f"other files of manifest {manifest_id} stay owed to dwh, as 1 manifest: {part}"
    )
    assert (record.kind, record.key) == ("file", GONE)
    assert record.reason == "the file does not exist; given up for dwh, which had not received it"
    assert (lagging.got("crm"), lagging.got("dwh")) == ([*OLD], [OLD[0], OLD[2]])
    assert (lagging.owed("dwh"), lagging.imbalances()) == ([], [])


def test_a_retry_owes_again_what_was_given_up(lagging: Runs) -> None:
    """Once the file is back, a retry delivers what was given up, and every subscriber gets everything once."""
    with without(lagging, GONE):
        lagging.work()
        lagging.work()
    assert lagging.retry() == [GONE]
    assert lagging.work() == []
    assert (lagging.got("crm"), sorted(lagging.got("dwh"))) == ([*OLD], [*OLD])
    assert (lagging.records(), lagging.imbalances()) == ([], [])


def test_a_replay_owes_again_what_was_given_up(lagging: Runs) -> None:
    """Once the file is back, a backfill of what is missing delivers what was given up."""
    with without(lagging, GONE):
        lagging.work()
        lagging.work()
    lagging.ask_for(date(2026, 11, 21))
    assert lagging.work() == []
    assert (lagging.got("crm"), sorted(lagging.got("dwh"))) == ([*OLD], [*OLD])


def test_a_replaced_file_needs_no_further_try(lagging: Runs) -> None:
    """What waits for a file that other content has taken the place of is given up at once; the new content goes out."""
    lagging.put_events(NEW)
    (lagging.bucket / GONE).write_text('{"key":"other content"}\n')
    assert lagging.work() == []
    lagging.work()
    lagging.work()
    assert lagging.got("dwh") == [OLD[0], OLD[2], "other content", NEW]
    assert lagging.records() == []
    (name,) = lagging.quarantine.objects.list(RESOLVED_FOLDER)
    (resolved,) = lagging.quarantine.records_in(name)
    assert (resolved.key, resolved.life[-1]["state"]) == (GONE, "resolved")
    assert resolved.reason.endswith("given up for dwh, which had not received it")


def test_bad_stretches_are_kept_beside_what_was_given_up(export: Runs) -> None:
    """A file that was read once, and is given up later, leaves what it had in the quarantine unchanged."""
    export.put(GONE, text='{"key":"a"}\nnonsense\n')
    for receiver in export.receivers.values():
        receiver.is_down = True
    export.work()
    with without(export, GONE):
        export.work()
        export.work()
    assert sorted((record.kind, record.text) for record in export.records()) == [("file", ""), ("stretch", "nonsense")]


def test_nothing_is_given_up_while_the_store_refuses_all(export: Runs) -> None:
    """However often a store refuses access, what was read long before is given up for nobody, and delivered after."""
    export.limit(1)
    export.put_events(*OLD)
    export.receivers["dwh"].is_down = True
    export.work()
    export.receivers["dwh"].is_down = False
    with denied():
        for _ in range(4):
            assert len(export.work()) == 3
    assert export.work() == []
    assert export.got("dwh") == [*OLD]
    assert (export.records(), export.imbalances()) == ([], [])


def test_nothing_is_given_up_for_what_was_read_before_the_store_refused(export: Runs) -> None:
    """A file that was read before the store began to refuse is not a reason to give up those planned with it."""
    export.limit(1)
    export.put_events(*OLD)
    with denied(OLD[0]):
        for _ in range(4):
            assert len(export.work()) == 2
    assert export.work() == []
    assert (export.got("crm"), export.records()) == ([*OLD], [])


def test_a_refused_file_is_given_up_while_others_are_read(export: Runs) -> None:
    """A file that the store refuses at every try is quarantined once others were read since the try before."""
    export.limit(1)
    export.put_events(OLD[0])
    with denied(NEW):
        export.work()
        export.work()
        assert export.records() == []
        export.put_events(NEW)
        export.work()
        export.work()
    assert [record.key for record in export.records()] == [OLD[0]]
    assert export.got("crm") == [NEW]


def test_a_manifest_that_is_refused_as_a_whole_holds_nothing_back(lagging: Runs) -> None:
    """If the store refuses all files of a manifest and returns others, a subscriber that waits for it gets those."""
    with denied(NEW):
        lagging.put_events(NEW)
        for _ in range(3):
            lagging.work()
        assert lagging.got("dwh") == [NEW]
        lagging.work()
    assert lagging.retry() == []
    lagging.work()
    assert lagging.got("dwh") == [NEW, *OLD]
