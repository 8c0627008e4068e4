"""What cannot be delivered is kept with all that it takes to drive it again."""

import base64
import json
import subprocess
import sys
from datetime import date, datetime, timezone

import pytest

from export_pipeline.batching.batch import Batch
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.record import FILE, REFUSED, STRETCH, TEXT_BYTES
from export_pipeline.source.file import SourceFile
from export_pipeline.source.framed import BadStretch
from export_pipeline_tests.batching.memory_objects import MemoryObjects

DAY = date(2026, 11, 23)
FILE_A = SourceFile("2026/11/23/a \udc80ü.gz", "etag-a", 123, datetime(2026, 11, 23, tzinfo=timezone.utc))
GARBAGE = bytes(range(256))


def test_a_bad_stretch_is_kept_whole() -> None:
    """Reason, key, etag, offset and length, the bytes in base64, and as text where they are UTF-8."""
    objects = MemoryObjects()
    pile = Quarantine(objects).of_manifest(manifest_id="m1", day=DAY)
    pile.add(FILE_A, BadStretch(8, 256, "not JSON", GARBAGE))
    pile.add(FILE_A, BadStretch(500, 7, "also “not”", "grün {".encode()))
    assert objects.puts == []
    pile.close()
    assert (pile.records, pile.size_bytes) == (2, 263)
    (lines,) = objects.kept.values()
    first, second = map(json.loads, lines.splitlines())
    assert {key: first[key] for key in ("kind", "reason", "key", "etag", "offset", "length", "manifest", "text")} == {
        "kind": STRETCH,
        "reason": "not JSON",
        "key": FILE_A.key,
        "etag": "etag-a",
        "offset": 8,
        "length": 256,
        "manifest": "m1",
        "text": None,
    }
    assert base64.b64decode(first["bytes_base64"]) == GARBAGE
    assert second["text"] == "grün {"
    assert "grün {".encode() in lines
    lines.decode()


def test_one_object_a_manifest_and_a_repeat_is_the_same() -> None:
    """The same stretches of a manifest give the same bytes under the same name, however often."""
    objects = MemoryObjects()
    quarantine = Quarantine(objects)
    for _ in range(2):
        pile = quarantine.of_manifest(manifest_id="m1", day=DAY)
        pile.add(FILE_A, BadStretch(0, 3, "bad", b"bad"))
        pile.close()
    assert objects.puts == ["2026-11-23/m1.ndjson"] * 2
    assert len(list(quarantine.records())) == 1


def test_a_manifest_without_bad_stretches_leaves_nothing() -> None:
    """No object is written if there is nothing to keep."""
    objects = MemoryObjects()
    Quarantine(objects).of_manifest(manifest_id="m1", day=DAY).close()
    assert objects.puts == []


def test_what_is_discarded_was_never_written() -> None:
    """Nothing is written before a manifest is read to its end, so nothing is left of one that was not."""
    objects = MemoryObjects()
    pile = Quarantine(objects, part_bytes=10).of_manifest(manifest_id="m1", day=DAY)
    for n in range(100):
        pile.add(FILE_A, BadStretch(n, 3, "bad", b"bad"))
    pile.discard()
    assert objects.puts == []


def test_what_is_too_large_for_one_object_goes_on_in_others() -> None:
    """Parts hold whole records, at most part_bytes of them or one, and are read as one."""
    objects = MemoryObjects()
    quarantine = Quarantine(objects, part_bytes=1000)
    pile = quarantine.of_manifest(manifest_id="m1", day=DAY)
    stretches = [BadStretch(n, 30 * n, f"bad {n}", b"x" * 30 * n) for n in range(50)]
    for stretch in stretches:
        pile.add(FILE_A, stretch)
    pile.close()
    assert objects.puts[:3] == ["2026-11-23/m1.ndjson", "2026-11-23/m1.part-1.ndjson", "2026-11-23/m1.part-2.ndjson"]
    assert all(len(data) <= 1000 or data.count(b"\n") == 1 for data in objects.kept.values())
    found = {record.offset: record for _, record in quarantine.records("2026-11-23")}
    assert [found[stretch.offset].data for stretch in stretches] == [stretch.data for stretch in stretches]


def test_a_cut_stretch_is_not_whole() -> None:
    """Of a stretch that was too long only the beginning is kept, and the record says so by its length."""
    quarantine = Quarantine(MemoryObjects())
    pile = quarantine.of_manifest(manifest_id="m1", day=DAY)
    pile.add(FILE_A, BadStretch(0, 10**9, "too long", b"x" * TEXT_BYTES))
    pile.add(FILE_A, BadStretch(10**9, TEXT_BYTES + 1, "long", b"x" * (TEXT_BYTES + 1)))
    pile.add(FILE_A, BadStretch(2 * 10**9, 0, "ends too early", b""))
    pile.close()
    cut, long, empty = (record for _, record in quarantine.records())
    assert (cut.is_whole, cut.length, cut.text) == (False, 10**9, "x" * TEXT_BYTES)
    assert (long.is_whole, long.text, long.data) == (True, None, b"x" * (TEXT_BYTES + 1))
    assert (empty.is_whole, empty.data) == (True, b"")


def test_refused_events_are_kept_for_each_subscriber_and_batch() -> None:
    """One object for each subscriber and batch, with the destination's reason; a repeat overwrites it."""
    objects = MemoryObjects()
    quarantine = Quarantine(objects)
    batch = Batch(id="m1-4", data=b'{"a":1}\n{"b":2}\n{"c":3}\n', events=3, files=("x",), date=DAY)
    for _ in range(2):
        quarantine.put_refused(manifest_id="m1", subscriber="crm", n=4, batch=batch, refused={2: "too old", 0: "no id"})
    quarantine.put_refused(manifest_id="m1", subscriber="other", n=4, batch=batch, refused={1: "no"})
    assert sorted(objects.kept) == ["2026-11-23/m1.crm.4.ndjson", "2026-11-23/m1.other.4.ndjson"]
    records = list(quarantine.records_in("2026-11-23/m1.crm.4.ndjson"))
    assert [(record.kind, record.offset, record.reason, record.data) for record in records] == [
        (REFUSED, 0, "no id", b'{"a":1}'),
        (REFUSED, 2, "too old", b'{"c":3}'),
    ]
    assert {(record.subscriber, record.batch, record.manifest, record.is_whole) for record in records} == {
        ("crm", "m1-4", "m1", True)
    }


def test_a_file_that_was_given_up_is_kept_by_name() -> None:
    """The record of a file names it and says why; its bytes stay where they are."""
    quarantine = Quarantine(MemoryObjects())
    quarantine.put_file(manifest_id="m9", day=DAY, file=FILE_A, reason="gone")
    ((name, record),) = quarantine.records("2026-11-23")
    assert name == "2026-11-23/m9.ndjson"
    assert (record.kind, record.key, record.etag, record.length) == (FILE, FILE_A.key, "etag-a", 123)
    assert (record.reason, record.data, record.is_whole) == ("gone", b"", False)


MEASURE = """
import resource
from datetime import date, datetime, timezone
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.source.file import SourceFile
from export_pipeline.source.framed import BadStretch

class Sizes:
    total = 0
    def put(self, name, data):
        self.total += len(data)

sizes = Sizes()
file = SourceFile("k", "e", 1, datetime(2026, 11, 23, tzinfo=timezone.utc))
pile = Quarantine(sizes).of_manifest(manifest_id="m", day=date(2026, 11, 23))
large = BadStretch(0, 16 << 20, "bad", b"\\xff" * (16 << 20))
small = BadStretch(0, 1000, "bad", b"\\xff" * 1000)
pile.add(file, small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for n in range(100_000):
    pile.add(file, small)
for n in range(4):
    pile.add(file, large)
pile.close()
print(sizes.total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.timeout(120)
def test_a_file_of_garbage_costs_no_memory() -> None:
    """A quarter of a gigabyte of records passes through in bounded memory, and so does a stretch of 16 MiB."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    total, growth_mib = map(int, done.stdout.split())
    assert total > 200_000_000
    assert growth_mib < 80
