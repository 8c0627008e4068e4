"""``on_overwrite: changed``: of a file that was overwritten, only the lines that the older version had not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from export_pipeline.batching import line_hashes
from export_pipeline.ledger import manifests, quarantined
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.overwrites import older_files
from export_pipeline.ledger.quarantined import DISMISSED, KEPT
from export_pipeline.source.file import ReadLimits
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW
from export_pipeline_tests.steps.test_quarantine_life import A, B, Lives


def lines(*names: str) -> str:
    return "".join(f'{{"key":"{name}"}}\n' for name in names)


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Lives]:
    made = Lives(tmp_path, ledger_url)
    made.settings = replace(made.settings, on_overwrite="changed")
    yield made
    made.ledger.close()


def test_a_mended_line_is_delivered_and_its_neighbours_are_not(export: Lives) -> None:
    """Of a file with a malformed line that is uploaded again, only the mended line arrives; the record is resolved."""
    export.put(A, text=lines("1") + '{"key":nonsense}\n' + lines("3"))
    export.put(B, text=lines("b"))
    export.work()
    assert export.got("crm") == ["1", "3", "b"]
    export.put(A, text=lines("1", "2", "3"))
    assert [export.work() for _ in range(2)] == [[], []]
    assert export.got("crm") == ["1", "3", "b", "2"]
    assert (export.records(), export.imbalances(), export.owed("crm")) == ([], [], [])


@pytest.mark.parametrize(
    ("versions", "arrived"),
    [
        ([["1", "1"], ["1", "1", "1"]], ["1", "1", "1"]),
        ([["1", "2"], ["2", "1"]], ["1", "2"]),
        ([["1", "2"], ["3", "4"]], ["1", "2", "3", "4"]),
        ([["1"], ["1", "2"], ["0", "1", "2", "3"]], ["1", "2", "0", "3"]),
        ([["1", "2"], ["1"], ["1", "2", "3"]], ["1", "2", "3"]),
        ([["1"], []], ["1"]),
    ],
)
def test_lines_are_compared_as_a_multiset(export: Lives, versions: list[list[str]], arrived: list[str]) -> None:
    """However often and in whatever order a line stands in the versions, it arrives as often as one of them had it."""
    for version in versions:
        export.put(A, text=lines(*version))
        assert [export.work() for _ in range(2)] == [[], []]
    assert export.got("crm") == arrived
    assert (export.imbalances(), export.owed("crm")) == ([], [])


def test_a_new_subscriber_gets_the_newer_version_whole(export: Lives) -> None:
    """Who did not receive the older version, which is gone, gets every line of the newer one, and no run fails."""
    export.put(A, text=lines("1", "2"))
    export.put(B, text=lines("b"))
    export.work()
    export.put(A, text=lines("1", "2", "3"))
    for _ in range(2):
        export.work()
    export.add("new")
    assert [failure for _ in range(4) for failure in export.work()] == []
    assert sorted(export.got("new")) == ["1", "2", "3", "b"]
    assert export.got("crm") == ["1", "2", "b", "3"]
    assert (export.given_up(), export.imbalances()) == (0, [])


@on_both_databases
def test_a_subscriber_that_was_down_gets_the_newer_version_whole(export: Lives) -> None:
    """It had not received the older version when it was overwritten; each line arrives once."""
    from export_pipeline_tests.steps.running import Receiver

    export.receivers["crm"] = Receiver(export.folder / "got-crm")
    export.receivers["crm"].is_down = True
    export.put(A, text=lines("1", "2"))
    export.work()
    export.put(A, text=lines("1", "2", "3"))
    export.work()
    export.receivers["crm"].is_down = False
    for _ in range(4):
        export.work()
    assert sorted(export.got("crm")) == ["1", "2", "3"]
    assert (export.given_up(), export.imbalances(), export.owed("crm")) == (0, [], [])


def test_of_two_versions_that_were_seen_at_once_one_is_older(export: Lives) -> None:
    """One run may learn of both, by two messages; if each waited for the other, neither would ever be delivered."""
    for version in (["1"], ["1", "2"]):
        export.put(A, text=lines(*version))
        export.work()
    with export.ledger.write() as tx:
        tx.execute(update(t.files).values(seen_at=NOW))
        ids = tx.execute(select(t.files.c.manifest_id).order_by(t.files.c.last_modified)).scalars().all()
        older = [older_files(tx, manifests.get(tx, manifest), 1) for manifest in ids]
    assert [[one.manifest.id for some in found.values() for one in some] for found in older] == [[], [ids[0]]]


def test_what_was_refused_of_the_older_version_goes_on_waiting(export: Lives) -> None:
    """The line is in both versions and is not delivered again, so nobody may take its record for resolved."""
    export.put(A, text=lines("1", "bad"))
    export.work()
    export.put(A, text=lines("1", "bad", "2"))
    for _ in range(2):
        export.work()
    assert [record.text for record in export.records()] == ['{"key":"bad"}']
    assert export.counts() == {KEPT: 1}
    assert DISMISSED not in export.counts()


def test_without_hashes_the_newer_version_is_delivered_whole(export: Lives) -> None:
    """An older version that was read before the option was set cannot be compared: better twice than not at all."""
    export.settings = replace(export.settings, on_overwrite="read")
    export.put(A, text=lines("1", "2"))
    export.work()
    export.settings = replace(export.settings, on_overwrite="changed")
    export.put(A, text=lines("1", "2", "3"))
    for _ in range(2):
        export.work()
    assert export.got("crm") == ["1", "2", "1", "2", "3"]


def test_a_version_with_unknown_lines_costs_one_delivery_as_a_whole(export: Lives) -> None:
    """After the switch from another mode the next version is delivered whole, and those after it are compared."""
    export.settings = replace(export.settings, on_overwrite="read")
    export.put(A, text=lines("1", "2"))
    export.work()
    export.settings = replace(export.settings, on_overwrite="changed")
    for last in (3, 4, 5):
        export.put(A, text=lines(*map(str, range(1, last + 1))))
        assert [export.work() for _ in range(2)] == [[], []]
    assert export.got("crm") == ["1", "2", "1", "2", "3", "4", "5"]


def test_a_line_that_a_retry_delivered_is_not_delivered_again(export: Lives) -> None:
    """A line that was too deep is retried under wider limits; of a newer version that has it, only the rest arrives."""
    deep = '{"key":"deep","x":[[[1]]]}\n'
    export.limits = ReadLimits(max_depth=2)
    export.put(A, text=lines("1") + deep)
    export.work()
    export.limits = ReadLimits()
    export.retry_all()
    assert export.work() == []
    assert export.got("crm") == ["1", "deep"]
    export.put(A, text=lines("1") + deep + lines("2"))
    assert [export.work() for _ in range(2)] == [[], []]
    assert export.got("crm") == ["1", "deep", "2"]
    assert export.imbalances() == []


def test_a_malformed_line_of_the_newer_version_is_quarantined_once(export: Lives) -> None:
    """The part with its new lines is read again, and what the whole had already quarantined is not listed twice."""
    export.put(A, text=lines("1"))
    export.work()
    export.put(A, text=lines("1", "2") + '{"key":nonsense}\n')
    assert [export.work() for _ in range(2)] == [[], []]
    assert export.got("crm") == ["1", "2"]
    assert len(export.records()) == 1
    with export.ledger.read() as tx:
        (entry,) = quarantined.entries(tx, 1)
    assert (entry.state, entry.records, bool(entry.name)) == (KEPT, 1, True)
    assert export.imbalances() == []


@pytest.mark.parametrize("at_once", [1, 7, 1_000])
def test_hashes_of_any_number_are_compared_in_bounded_memory(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In however many passes, the same lines are new: those of the model, which counts them in a dictionary."""
    monkeypatch.setattr(line_hashes, "_HASHES_AT_ONCE", at_once)
    digests = [bytes([n % 7, n % 3]) + bytes(14) for n in range(60)]
    old, older, new = digests[:20], digests[5:40:2], digests[10:]
    known = {one: max(old.count(one), older.count(one)) for one in digests}
    expected = []
    for n, one in enumerate(new):
        if known[one]:
            known[one] -= 1
        else:
            expected.append(n)
    found = line_hashes.new_among(iter(new), [iter(old), iter(older)])
    assert [n for start, stop in found for n in range(start, stop)] == expected
