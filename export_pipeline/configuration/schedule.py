"""How often the export runs, and the defaults derived from it: the time budget of a run, and the allowed lag."""

from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

FREQUENCIES = {
    "ten_minutes": "*/10 * * * *",
    "hourly": "0 * * * *",
    "twicedaily": "0 0,12 * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
}
"""WordPress's names of recurring events, and Altis's ``ten_minutes`` → cron."""

_LEAST = timedelta(minutes=60)
# A frequency such as */10 8-18 * * 1-5 has its longest pause at the weekend.
_LOOKED_AT = timedelta(days=8)
_LEAST_TICKS = 14
_MOST_TICKS = 12_000
_SOME_MOMENT = datetime(2026, 1, 1, tzinfo=timezone.utc)
_LEAST_RUN_SECONDS = 60.0
_MOST_RUN_SECONDS = 3_600.0


def cron_of(frequency: str) -> str:
    """The cron expression of a name, or the expression itself.

    Raises:
        ValueError: *frequency* is neither one of ``FREQUENCIES`` nor an expression of five fields that Dagster accepts.
    """
    if frequency in FREQUENCIES:
        return FREQUENCIES[frequency]
    allowed = f"one of {', '.join(FREQUENCIES)}, or a cron expression of five fields (minute hour day month weekday)"
    # Dagster validates it, because Dagster runs it: it refuses seconds, and dates that do not exist, as 30 February.
    from dagster import DagsterInvalidDefinitionError, ScheduleDefinition

    if len(frequency.split()) != 5:
        raise ValueError(f"allowed: {allowed}")
    try:
        ScheduleDefinition(name="frequency", job_name="frequency", cron_schedule=frequency)
    except DagsterInvalidDefinitionError as error:
        raise ValueError(f"allowed: {allowed}") from error
    return frequency


def checked_frequency(frequency: str) -> str:
    """*frequency*, if :func:`cron_of` accepts it."""
    cron_of(frequency)
    return frequency


def checked_timezone(name: str) -> str:
    """*name*, if it is an IANA time zone.

    Raises:
        ValueError: it is not.
    """
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of zones, such as "Europe"
        raise ValueError("allowed: an IANA time zone such as UTC, Europe/Berlin or America/New_York") from error


def default_lag(cron: str, zone: str, now: datetime) -> timedelta:
    """The default of ``max_lag_minutes``: twice the longest time between two of the next ticks, at least an hour."""
    return max(_LEAST, 2 * longest_pause(cron, zone, now))


def default_run_seconds(cron: str, zone: str) -> float:
    """The default of ``max_run_seconds``: the shortest time between two ticks, counted from a fixed date."""
    from export_pipeline.dagster_internals import cron_string_iterator

    ticks = islice(cron_string_iterator(_SOME_MOMENT.timestamp(), cron, zone), _LEAST_TICKS)
    shortest = min(following - one for one, following in pairwise(ticks))
    return min(max(shortest.total_seconds(), _LEAST_RUN_SECONDS), _MOST_RUN_SECONDS)


def next_tick(cron: str, zone: str, now: datetime) -> datetime:
    """The first tick after *now*."""
    from export_pipeline.dagster_internals import cron_string_iterator

    return next(tick for tick in cron_string_iterator(now.timestamp(), cron, zone) if tick > now)


def longest_pause(cron: str, zone: str, now: datetime) -> timedelta:
    """The longest time between two ticks in the week that starts *now*, or in the next fourteen ticks."""
    end = now.astimezone(timezone.utc) + _LOOKED_AT
    from export_pipeline.dagster_internals import cron_string_iterator

    # Dagster's own cron parser, which is not public: any other one could differ from the schedule.
    ticks = islice(cron_string_iterator(now.timestamp(), cron, zone), _MOST_TICKS)
    longest = timedelta()
    for number, (one, following) in enumerate(pairwise(ticks)):
        longest = max(longest, following - one)
        if one > end and number >= _LEAST_TICKS:
            break
    return longest
