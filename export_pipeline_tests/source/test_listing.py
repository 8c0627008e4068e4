"""Listing in several places at once."""

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.source.layout import Layout
from export_pipeline.source.listing import RANGES_AT_ONCE, Page, list_ranges, splits
from export_pipeline.source.s3_page import Listed
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import open_source
from export_pipeline.storage.aws import AwsLogin
from export_pipeline_tests.servers.objects import ObjectServer

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
keys_of = st.sets(st.text("abc", max_size=4).filter(bool), max_size=40)


class Bucket:
    """A bucket that lists this many keys per page, and counts its requests."""

    def __init__(self, keys: set[str], keys_a_page: int, seconds: float = 0.0) -> None:
        self.keys = sorted(keys)
        self.keys_a_page = keys_a_page
        self.seconds = seconds
        self.asked: list[str] = []

    def list_after(self, key: str) -> Page:
        self.asked.append(key)
        time.sleep(self.seconds)
        begin = bisect_right(self.keys, key)
        end = begin + self.keys_a_page
        page = [listed(key) for key in self.keys[begin:end]]
        rest = None if end >= len(self.keys) else lambda: self.list_after(self.keys[end - 1])
        return Page(page, rest)


def listed(key: str) -> Listed:
    return key, "etag", 1, NOON


def days(begin: datetime, count: int, files_a_day: int) -> set[str]:
    return {f"{begin + timedelta(days=day):%Y/%m/%d}/{n:05}" for day in range(count) for n in range(files_a_day)}


@given(keys_of, st.integers(1, 7), st.lists(st.text("abcd", max_size=4)), st.text("abc", max_size=2))
def test_every_file_comes_once_and_in_order(keys: set[str], keys_a_page: int, between: list[str], after: str) -> None:
    """Wherever one guesses that ranges begin, exactly the files after the start come, in the order of keys."""
    bucket = Bucket(keys, keys_a_page)
    found = [key for key, *_ in list_ranges(bucket.list_after(after), bucket.list_after, iter(sorted(between)))]
    assert found == [key for key in sorted(keys) if key > after]


def test_who_takes_one_page_asks_for_one() -> None:
    """Nothing is asked ahead before the second page is wanted, and no thread stays behind."""
    bucket = Bucket(days(NOON, 50, 100), 100)
    start = bucket.list_after("")
    files = list_ranges(start, bucket.list_after, splits(Layout("%Y/%m/%d"), start, NOON + timedelta(days=60)))
    assert len(list(islice(files, 100))) == 100
    assert len(bucket.asked) == 1
    next(files)
    files.close()  # type: ignore[attr-defined]
    assert len(bucket.asked) <= 1 + RANGES_AT_ONCE
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("list")]


def test_few_requests_are_wasted() -> None:
    """A long listing takes little more requests than it has pages, and less than half the time."""
    bucket = Bucket(days(NOON, 60, 500), 1_000, seconds=0.02)
    began = time.monotonic()
    start = bucket.list_after("")
    between = splits(Layout("%Y/%m/%d"), start, NOON + timedelta(days=60))
    assert sum(1 for _ in list_ranges(start, bucket.list_after, between)) == 30_000
    assert len(bucket.asked) <= 30 * 1.5
    assert time.monotonic() - began < 30 * 0.02 / 2


def test_years_without_files_cost_no_requests() -> None:
    """If a page shows that the ranges before it are empty, they are not requested."""
    bucket = Bucket(days(NOON - timedelta(days=3_000), 3, 60) | days(NOON, 1, 60), 100)
    start = bucket.list_after("")
    between = splits(Layout("%Y/%m/%d"), start, NOON + timedelta(days=1))
    assert sum(1 for _ in list_ranges(start, bucket.list_after, between)) == 240
    assert len(bucket.asked) <= 4 + 2 * RANGES_AT_ONCE


@pytest.mark.parametrize(
    ("pattern", "first", "last", "expected"),
    [
        ("%Y/%m/%d", "2026/11/01/a", "2026/11/01/z", ["2026/11/01~", "2026/11/02~"]),
        ("%Y/%m/%d/%H/", "2026/11/01/00/a", "2026/11/01/00/z", ["2026/11/01/01.~", "2026/11/01/02.~"]),
        ("%Y/%m/%d/%H/", "2026/11/01/00/a", "2026/11/01/02/z", ["2026/11/02/02.~", "2026/11/03/02.~"]),
        ("%Y/%m/%d", "2026/10/01/a", "2026/10/20/z", ["2027/01/03~", "2027/03/20~"]),
        ("%Y/%m/%d", "a", "2026/10/20/z", []),
        ("%Y/%m/%d", "2026/10/20/z", "x", []),
    ],
)
def test_where_ranges_begin(pattern: str, first: str, last: str, expected: list[str]) -> None:
    """Ranges are as long as a few pages are likely to be; keys that tell no date give no ranges."""
    page = Page([listed(first), listed(last)], None)
    found = splits(Layout(pattern), page, NOON + timedelta(days=365))
    assert list(islice(found, 2)) == expected
    assert list(splits(Layout(pattern), Page([], None), NOON)) == []
    assert list(splits(Layout(pattern), page, NOON - timedelta(days=365))) == []


def test_a_failure_in_a_later_range_fails_the_listing() -> None:
    """No error of any range is lost."""
    bucket = Bucket(days(NOON, 60, 100), 100)

    def list_after(key: str) -> Page:
        if key > "2026/12":
            raise OSError("no")
        return bucket.list_after(key)

    start = bucket.list_after("")
    between = splits(Layout("%Y/%m/%d"), start, NOON + timedelta(days=60))
    with pytest.raises(OSError, match="no"):
        list(list_ranges(start, list_after, between))


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer() as server:
        yield server


def source_settings(server: ObjectServer) -> SourceSettings:
    login = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    return SourceSettings.model_validate({"url": "s3://bkt/in", "endpoint_url": server.url, **login})


def test_a_large_listing_over_http(server: ObjectServer) -> None:
    """A source asks for pages of a large listing at the same time, and gives its files in order, within the limits."""
    keys = days(NOON - timedelta(days=30), 30, 40) | {"2026/10/x", "2026/11/05", "README", "2026/11/05/dir/"}
    server.objects = {f"in/{key}": b"" for key in keys}
    server.page_keys = 50
    server.latency_seconds = 0.02
    source = open_source(source_settings(server))
    for after, before in (("", None), ("2026/10/30~", "2026/11/20")):
        found = [file.key for file in source.list_files(after=after, before=before)]
        assert found == [
            key for key in sorted(keys) if key > after and (before is None or key < before) and not key.endswith("/")
        ]
    assert server.most_at_once > 3


def test_directory_buckets_are_sorted(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that lists in any order and knows no start-after is listed whole, below its folder, and sorted."""
    monkeypatch.setattr(AwsLogin, "is_express", True)
    keys = ["2026/11/23/b", "2026/11/22/z", "2026/11/23/a", "2026/11/24/dir/", "2025/x", "2026/11/25/c"]
    server.objects = {f"in/{key}": b"" for key in keys}
    server.sorts = False
    source = open_source(source_settings(server))
    found = source.list_files(after="2026/11/22/z", prefix="2026/11/2", before="2026/11/25/d")
    assert [file.key for file in found] == ["2026/11/23/a", "2026/11/23/b", "2026/11/25/c"]
    assert server.requests[-1].query["prefix"] == "in/2026/11/"
    assert "start-after" not in server.requests[-1].query
