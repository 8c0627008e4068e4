"""What is taken out of the quarantine becomes a separate file."""

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from export_pipeline.batching.record import REFUSED, STRETCH, Record
from export_pipeline.batching.retried import RetriedFiles
from export_pipeline.errors import FileReplaced
from export_pipeline_tests.batching.memory_objects import MemoryObjects

DAY, ARRIVED = "2026-11-23", datetime(2026, 11, 23, tzinfo=timezone.utc)
EVENT = Record(
    kind=REFUSED,
    reason="no",
    manifest="m1",
    key="",
    etag="",
    offset=3,
    length=2,
    subscriber="crm",
    batch="m1-0",
    bytes_base64="e30=",
    text="{}",
)
STRETCH_OF_A = replace(EVENT, kind=STRETCH, key="a \udc80", etag="e1", subscriber="", batch="")


@pytest.mark.parametrize(
    ("record", "other"),
    [
        (EVENT, replace(EVENT, subscriber="dwh")),
        (EVENT, replace(EVENT, batch="m2-0", manifest="m2")),
        (EVENT, replace(EVENT, offset=4)),
        (STRETCH_OF_A, replace(STRETCH_OF_A, key="b")),
        (STRETCH_OF_A, replace(STRETCH_OF_A, etag="e2")),
        (STRETCH_OF_A, replace(STRETCH_OF_A, bytes_base64="e30K", length=3)),
    ],
)
def test_equal_bytes_of_two_places_are_two_files(record: Record, other: Record) -> None:
    """An event or malformed record from another place, or refused by another subscriber, is another file with its own
    bytes.
    """
    objects = MemoryObjects()
    retried = RetriedFiles(objects)
    files = [retried.put(DAY, [one], arrived=ARRIVED) for one in (record, other)]
    assert files[0].key != files[1].key
    assert [retried.read_range(file, 0, 100) for file in files] == [one.data + b"\n" for one in (record, other)]


@pytest.mark.parametrize("record", [EVENT, STRETCH_OF_A])
def test_the_same_records_are_the_same_file(record: Record) -> None:
    """Put a second time they replace nothing, whatever the reason is called by then."""
    objects = MemoryObjects()
    retried = RetriedFiles(objects)
    first, second = (retried.put(DAY, [one], arrived=ARRIVED) for one in (record, replace(record, reason="still no")))
    assert first == second
    assert set(objects.kept) == {first.key, first.key.replace(".ndjson", ".origins")}
    assert (first.last_modified, first.size_bytes) == (ARRIVED, 3)


def test_a_bad_stretch_that_two_manifests_keep_is_one_file() -> None:
    """A manifest that takes another's place without an unreadable file keeps the same stretches of the others."""
    retried = RetriedFiles(MemoryObjects())
    files = {retried.put(DAY, [replace(STRETCH_OF_A, manifest=one)], arrived=ARRIVED) for one in ("m1", "m2")}
    assert len(files) == 1


def test_a_file_whose_bytes_were_changed_is_not_read() -> None:
    """Only the bytes that were put there are driven again."""
    objects = MemoryObjects()
    retried = RetriedFiles(objects)
    file = retried.put(DAY, [EVENT], arrived=ARRIVED)
    objects.put(file.key, b"[]\n")
    with pytest.raises(FileReplaced):
        retried.read_range(file, 0, 3)
