"""A batch that a subscriber has in part: gone on from by the next run, in whatever way the first one ended."""

import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import func, select

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Refused, TryLater
from export_pipeline.ledger import balance, deliveries, folding, owed, portions
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.database import utc_now
from export_pipeline.steps.deliver import Delivered, deliver
from export_pipeline.testing import RecordingSubscriber
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import Export
from export_pipeline_tests.steps.running import Runs, without

KEY = "2026/11/23/a.json"


class Halving(RecordingSubscriber):
    """Takes four events at once at most, and no more requests than it has room for; then it is down, or kills.

    Every request that it takes is a line of a file: its id, and the numbers of its events.
    """

    def __init__(self, taken: Path, room: int, *, kills: bool = False) -> None:
        super().__init__(retry_for_seconds=0)
        self.taken = taken
        self.room = room
        self.kills = kills

    def deliver(self, batch: Batch) -> None:
        if batch.events > 4:
            raise Refused("413")
        if not self.room:
            if self.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise TryLater("down")
        self.room -= 1
        with self.taken.open("a") as file:
            json.dump([batch.id.partition("-")[2], [json.loads(line)["n"] for line in batch.lines()]], file)
            file.write("\n")


def work(export: Export, room: int, *, kills: bool = False) -> object:
    """One run; what its first delivery came to, or its error."""
    found = export.run()
    with export.ledger.read() as tx:
        chosen = owed.choose(tx, found.subscriptions, max_files=10, max_retries=10)
    outcome: object = None
    for manifest in chosen:
        subscriber = Halving(export.bucket.parent / "taken", room, kills=kills)
        try:
            outcome = deliver(
                export.place, manifest.id, found.subscriptions[0], subscriber, run_id=f"run-{export.runs}"
            )
        except TryLater as error:
            outcome = error
    return outcome


def taken(folder: Path) -> list[list[object]]:
    return [json.loads(line) for line in (folder / "taken").read_text().splitlines()]


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Export:
    made = Export(tmp_path, ledger_url)
    made.put(KEY, text="".join(f'{{"n":{n}}}\n' for n in range(8)))
    return made


FIRST, SECOND = ["0-r0-4", [0, 1, 2, 3]], ["0-r4-8", [4, 5, 6, 7]]


def test_the_next_run_sends_the_other_half_alone(export: Export, tmp_path: Path) -> None:
    """What one half has is in the ledger until the batch is accepted, and nothing of it is left then."""
    assert isinstance(work(export, 1), TryLater)
    assert taken(tmp_path) == [FIRST]
    outcome = work(export, 1)
    assert isinstance(outcome, Delivered)
    assert outcome.totals.accepted == 8
    assert taken(tmp_path) == [FIRST, SECOND]
    with export.ledger.read() as tx:
        # Kept, since an answer divided the batch: a replay sends it in the same parts.
        assert tx.execute(select(func.count()).select_from(t.portions)).scalar_one() > 0
        assert balance.imbalances(tx, 1) == []


def test_the_process_is_killed_between_two_halves(export: Export, tmp_path: Path, ledger_url: str) -> None:
    """The half that was taken does not come again after SIGKILL, and the other has the id it had."""
    arguments = [sys.executable, "-m", __name__, str(tmp_path), ledger_url]
    assert subprocess.run(arguments, check=False, timeout=120).returncode == -signal.SIGKILL
    assert taken(tmp_path) == [FIRST]
    assert isinstance(work(export, 1), Delivered)
    assert taken(tmp_path) == [FIRST, SECOND]


@on_both_databases
def test_a_replay_begins_with_the_whole_batch(export: Export, tmp_path: Path) -> None:
    """Also of a delivery that was accepted in part only: everything comes again, under the ids it had."""
    work(export, 1)
    export.ask_for(date(2026, 11, 23), again=True)
    assert isinstance(work(export, 2), Delivered)
    assert taken(tmp_path) == [FIRST, FIRST, SECOND]


def test_a_manifest_accepted_in_part_does_not_change_and_is_not_folded(export: Export) -> None:
    """Its files are not set apart under other ids, and what is known of its batch stays."""
    work(export, 1)
    with export.ledger.write() as tx:
        (identity,) = tx.execute(select(t.manifests.c.id)).scalars()
        assert not deliveries.is_untouched(tx, identity)
        tx.execute(t.deliveries.update().values(state=deliveries.WAIVED))
        assert folding.fold(tx, 1, before=date(2026, 12, 1), most=10, now=utc_now()) == 0
        assert portions.accepted(tx, identity, 1) == {0: {0, 1, 2, 3}}


def test_a_file_that_is_gone_leaves_only_what_was_not_accepted_of_its_neighbours(
    tmp_path: Path, ledger_url: str
) -> None:
    """A manifest that goes on in parts holds no event that the subscriber has from a half of a batch."""
    export = Runs(tmp_path, ledger_url)
    export.subscribers = {"crm": None}
    for name, first in (("a", 0), ("b", 6)):
        export.put(f"2026/11/23/{name}.json", text="".join(f'{{"n":{n}}}\n' for n in range(first, first + 6)))
    work(export, 2)
    assert taken(tmp_path) == [["0-r0-3", [0, 1, 2]], ["0-r3-6", [3, 4, 5]]]
    with without(export, "2026/11/23/a.json"):
        for _ in range(export.max_attempts):
            export.receivers["crm"].room = 0
            export.work()
        export.receivers["crm"].room = None
        export.work()
    assert [json.loads(line)["n"] for line in export.receivers["crm"].lines] == [6, 7, 8, 9, 10, 11]


if __name__ == "__main__":
    work(Export(Path(sys.argv[1]), sys.argv[2]), 1, kills=True)
