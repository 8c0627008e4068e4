"""Dates in keys."""

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.errors import ConfigurationError
from export_pipeline.source.layout import Layout

UTC = timezone.utc
PATTERNS = [
    "%Y/%m/%d",
    "%Y/%m/%d/",
    "%Y/%m/%d/%H/",
    "%Y/%m/%d/%H/%M/",
    "%Y%m%d",
    "%Y%j",
    "dt=%Y-%m-%d/",
    "dt=%Y-%m-%d/hour=%H/",
    "year=%Y/month=%m/day=%d/",
    "%Y/%j-%H",
    "100%%/%Y-%m-%d.",
    "é漢/%Y.%m.%d😀",
]
layouts = st.sampled_from(PATTERNS).map(Layout)
moments = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30, 23, 59), timezones=st.just(UTC)
)  # a day of distance, so that the day before and the day after exist
tails = st.text(st.characters(blacklist_categories=["Cs"]), max_size=10)


@given(layouts, moments, tails)
def test_a_key_tells_the_date_it_was_made_from(layout: Layout, moment: datetime, tail: str) -> None:
    """A key that begins with the pattern tells its day, whatever follows, and its hour where the pattern has one."""
    key = layout.key_floor(moment) + tail
    assert layout.date_of(key) == moment.date()
    told = layout.moment_of(key)
    assert told is not None
    assert told <= moment < told + timedelta(days=1)
    assert layout.moment_of(key) == told, "the second answer comes from the cache"
    if "%H" in layout.pattern:
        assert told.hour == moment.hour


@given(layouts, moments, moments, tails, tails)
def test_the_order_of_keys_is_the_order_of_dates(
    layout: Layout, one: datetime, other: datetime, tail: str, other_tail: str
) -> None:
    """Of two files, the one whose key tells the earlier moment sorts first, by the bytes of UTF-8."""
    keys = [layout.key_floor(one) + tail, layout.key_floor(other) + other_tail]
    told = [layout.moment_of(key) for key in keys]
    assert told[0] is not None
    assert told[1] is not None
    if told[0] < told[1]:
        assert keys[0].encode() < keys[1].encode()


@given(layouts, moments, tails)
def test_the_limits_of_a_listing(layout: Layout, moment: datetime, tail: str) -> None:
    """Listing after start_after(m) finds every key of m and none before it, before next_day_floor all of m."""
    key = layout.key_floor(moment) + tail
    day = moment.date()
    assert layout.start_after(moment) < key
    assert key < layout.next_day_floor(day)
    assert layout.key_floor(moment + timedelta(days=1)) + tail >= layout.next_day_floor(day)
    earlier = layout.key_floor(moment - timedelta(days=1)) + tail
    assert earlier <= layout.start_after(moment) or tail > "~"
    assert key.startswith(layout.day_prefix(day))
    assert not earlier.startswith(layout.day_prefix(day))


@pytest.mark.parametrize(
    "key",
    [
        "2026/02/30/x",
        "2026/13/01/x",
        "2026/00/10/x",
        "0000/01/01/x",
        "2026-11-23/x",
        "2026/1/1/x",
        "2026/11/2",
        "",
        "x/2026/11/23",
        "２０２６/11/23",
        "²026/11/23",
        " 2026/11/23",
    ],
)
def test_what_is_no_date(key: str) -> None:
    """A key that does not begin with the pattern, or names no day of the calendar, has no date."""
    assert Layout("%Y/%m/%d").date_of(key) is None


def test_what_follows_the_pattern_does_not_matter() -> None:
    """As in the original, a key matches when it begins with the pattern: a third digit of the day is just more key."""
    layout = Layout("%Y/%m/%d")
    assert layout.date_of("2026/11/23") == date(2026, 11, 23)
    assert layout.date_of("2026/11/234/x") == date(2026, 11, 23)


@pytest.mark.parametrize(("key", "day"), [("2024366", date(2024, 12, 31)), ("2026366", None), ("2026000", None)])
def test_days_of_the_year(key: str, day: date | None) -> None:
    """%j counts from 001, to 366 in leap years only."""
    assert Layout("%Y%j").date_of(key) == day


def test_hours_that_do_not_exist() -> None:
    """A key of hour 24 does not match the layout."""
    assert Layout("%Y/%m/%d/%H").moment_of("2026/11/23/24/x") is None


def test_moments_of_other_zones_are_utc() -> None:
    """Keys tell UTC, so a moment elsewhere is turned into UTC first."""
    there = datetime(2026, 11, 23, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert Layout("%Y/%m/%d/%H").key_floor(there) == "2026/11/22/23"


def test_the_last_day_of_the_calendar() -> None:
    """There is a limit behind 9999-12-31 too."""
    layout = Layout("%Y/%m/%d")
    assert layout.next_day_floor(date.max) > "9999/12/31/zzz"


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("%d/%m/%Y", "%d %m %Y"),
        ("%Y/%m", "%Y %m"),
        ("%Y/%d", "%Y %d"),
        ("%m/%d", "%m %d"),
        ("%Y/%m/%d/%M", "%M"),
        ("%Y/%m/%d %Y", "%Y %m %d %Y"),
        ("%y/%m/%d", "%y"),
        ("%Y/%m/%d/%S", "%S"),
        ("events", "no directive"),
        ("", "no directive"),
        ("%Y/%m/%d%", "%"),
        ("/%Y/%m/%d", "begins with a slash"),
    ],
)
def test_patterns_that_are_refused(pattern: str, complaint: str) -> None:
    """A pattern by which keys would not sort by date is refused, with what it has and what is allowed."""
    with pytest.raises(ConfigurationError) as raised:
        Layout(pattern)
    assert complaint in str(raised.value)


def test_many_prefixes_do_not_fill_the_memory() -> None:
    """The cache of prefixes stays small, however many days there are."""
    layout = Layout("%Y/%m/%d/%H/%M")
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    for minute in range(30_000):
        assert layout.date_of(layout.key_floor(begin + timedelta(minutes=minute))) is not None
    assert len(layout._moments) <= 10_000
