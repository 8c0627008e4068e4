"""What follows from when the export is due: how old a file may become, and how long a run may last."""

from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise

from export_pipeline.dagster_internals import cron_string_iterator
from export_pipeline.orchestration.export import Watching

_LEAST = timedelta(minutes=60)
# A frequency such as */10 8-18 * * 1-5 has its longest pause at the weekend, one of the first of a month its own.
_LOOKED_AT = timedelta(days=8)
_LEAST_TICKS = 14
_MOST_TICKS = 12_000
_SOME_MOMENT = datetime(2026, 1, 1, tzinfo=timezone.utc)
_LEAST_RUN_SECONDS = 60.0
_MOST_RUN_SECONDS = 3_600.0


def allowed_lag(watching: Watching, now: datetime) -> timedelta:
    """``max_lag_minutes``, or twice the longest time between two of the next ticks, and at least an hour."""
    if watching.max_lag_minutes is not None:
        return timedelta(minutes=watching.max_lag_minutes)
    return max(_LEAST, 2 * longest_pause(watching.cron, watching.timezone, now))


def default_run_seconds(cron: str, zone: str) -> float:
    """The shortest time between two ticks, seen from a fixed moment, so that it is the same on any day."""
    ticks = islice(cron_string_iterator(_SOME_MOMENT.timestamp(), cron, zone), _LEAST_TICKS)
    shortest = min(following - one for one, following in pairwise(ticks))
    return min(max(shortest.total_seconds(), _LEAST_RUN_SECONDS), _MOST_RUN_SECONDS)


def longest_pause(cron: str, zone: str, now: datetime) -> timedelta:
    """The longest time between two ticks of the week that begins *now*, or of the next fourteen ticks."""
    end = now.astimezone(timezone.utc) + _LOOKED_AT
    # Dagster's own reading of cron, which is not public: any other one might differ from what the schedule does.
    ticks = islice(cron_string_iterator(now.timestamp(), cron, zone), _MOST_TICKS)
    longest = timedelta()
    for number, (one, following) in enumerate(pairwise(ticks)):
        longest = max(longest, following - one)
        if one > end and number >= _LEAST_TICKS:
            break
    return longest
