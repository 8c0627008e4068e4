"""The sample bucket: files and events as the original's users know them."""

import gzip
import json
import random
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from export_pipeline.sample_bucket import make_sample_bucket, sample_events

UNTIL = datetime(2026, 11, 23, 6, 30, tzinfo=timezone.utc)
KEY = re.compile(
    r"(\d{4})/(\d\d)/(\d\d)/(\d\d)/sample-events-1-\1-\2-\3-\4-\d\d-\d\d-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.gz"
)


def unpacked(folder: Path) -> dict[str, bytes]:
    """Key → bytes of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): gzip.decompress(path.read_bytes()) for path in paths}


def objects_in(data: bytes) -> list[dict[str, object]]:
    """Every JSON object, newline-delimited or concatenated."""
    text, place, found = data.decode(), 0, []
    while place < len(text.rstrip()):
        value, end = json.JSONDecoder().raw_decode(text, place)
        found.append(value)
        place = end + (text[end : end + 1] == "\n")
    return found


def test_keys_are_those_of_firehose(tmp_path: Path) -> None:
    """Every key is in Firehose's layout, in key order, and none tells a moment that has not come yet."""
    sample = make_sample_bucket(tmp_path, events=60, files=20, days=3, until=UNTIL)
    assert list(sample.files) == sorted(unpacked(tmp_path)) == list(sample.files)
    assert all(KEY.fullmatch(key) for key in sample.files)
    moments = [datetime.strptime(key[:13], "%Y/%m/%d/%H").replace(tzinfo=timezone.utc) for key in sample.files]
    assert min(moments) >= UNTIL - timedelta(days=3, hours=1)
    assert max(moments) <= UNTIL
    assert len({moment.date() for moment in moments}) == 4


def test_events_have_pinpoints_shape() -> None:
    """An event is one compact JSON object of 1–2 KB with the fields that the Segment mapping reads."""
    events = list(sample_events(random.Random(1), 200, UNTIL))
    assert all(1_000 <= len(event) <= 2_000 for event in events)
    parsed = [json.loads(event) for event in events]
    assert {event["event_type"] for event in parsed} == {"pageView", "click", "_session.start", "_session.stop"}
    for event in parsed:
        assert event["endpoint"]["Id"]
        assert isinstance(event["endpoint"]["Attributes"]["DeviceMake"], list)
        assert all(isinstance(value, str) for value in event["attributes"].values())
        assert all(isinstance(value, int | float) for value in event["metrics"].values())
        assert event["arrival_timestamp"] > event["event_timestamp"]
    assert b"\n" not in b"".join(events)


def test_files_come_in_three_framings(tmp_path: Path) -> None:
    """A third each: newline-delimited, without a last newline, and concatenated; together exactly the events."""
    sample = make_sample_bucket(tmp_path, events=90, files=9, days=1, until=UNTIL, broken=False)
    contents = [unpacked(tmp_path)[key] for key in sample.files]
    assert [data.endswith(b"\n") for data in contents] == [True, False, False] * 3
    assert [data.count(b"\n") for data in contents] == [10, 9, 0] * 3
    assert sum(len(objects_in(data)) for data in contents) == sample.events == 90
    assert sample.broken_key is None


def test_one_record_is_broken(tmp_path: Path) -> None:
    """One newline-delimited file has one line that is not JSON, between valid ones; all other lines parse."""
    sample = make_sample_bucket(tmp_path, events=90, files=9, days=1, until=UNTIL)
    contents = unpacked(tmp_path)
    broken = contents.pop(sample.broken_key or "")
    lines = broken.splitlines()
    wrong = [number for number, line in enumerate(lines) if not line.endswith(b"}")]
    assert len(wrong) == 1
    assert 0 < wrong[0] < len(lines) - 1
    good = [json.loads(line) for number, line in enumerate(lines) if number not in wrong]
    assert len(good) + sum(len(objects_in(data)) for data in contents.values()) == sample.events


def test_the_same_arguments_make_the_same_files(tmp_path: Path) -> None:
    """Byte for byte; another seed makes other files."""
    one = make_sample_bucket(tmp_path / "one", events=30, files=6, seed=4, until=UNTIL)
    two = make_sample_bucket(tmp_path / "two", events=30, files=6, seed=4, until=UNTIL)
    other = make_sample_bucket(tmp_path / "other", events=30, files=6, seed=5, until=UNTIL)
    assert one == two
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").rglob("*.gz")} == {
        path.name: path.read_bytes() for path in (tmp_path / "two").rglob("*.gz")
    }
    assert not set(one.files) & set(other.files)


def test_nothing_unfinished_is_left(tmp_path: Path) -> None:
    """Only finished files are in the folder, as many and as large as told."""
    sample = make_sample_bucket(tmp_path, events=6, files=6, until=UNTIL)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) == len(sample.files) == 6
    assert sum(path.stat().st_size for path in paths) == sample.size_bytes


@pytest.mark.parametrize(("events", "files", "days"), [(5, 6, 3), (6, 2, 3), (6, 6, 0)])
def test_impossible_numbers_are_refused(tmp_path: Path, events: int, files: int, days: int) -> None:
    """A file holds at least one event, and a day at least one file."""
    with pytest.raises(ValueError, match="does not hold"):
        make_sample_bucket(tmp_path, events=events, files=files, days=days)
    assert list(tmp_path.iterdir()) == []
