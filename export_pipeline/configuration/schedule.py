"""How often the export runs."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

FREQUENCIES = {
    "ten_minutes": "*/10 * * * *",
    "hourly": "0 * * * *",
    "twicedaily": "0 0,12 * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
}
"""WordPress's names of recurring events, and Altis's ``ten_minutes`` → cron."""


def cron_of(frequency: str) -> str:
    """The cron expression of a name, or the expression itself.

    Raises:
        ValueError: *frequency* is neither one of ``FREQUENCIES`` nor an expression of five fields that Dagster takes.
    """
    if frequency in FREQUENCIES:
        return FREQUENCIES[frequency]
    allowed = f"one of {', '.join(FREQUENCIES)}, or a cron expression of five fields (minute hour day month weekday)"
    # Dagster decides, because Dagster runs it: it refuses seconds, and days that never come such as 30 February.
    from dagster import DagsterInvalidDefinitionError, ScheduleDefinition

    if len(frequency.split()) != 5:
        raise ValueError(f"allowed: {allowed}")
    try:
        ScheduleDefinition(name="frequency", job_name="frequency", cron_schedule=frequency)
    except DagsterInvalidDefinitionError as error:
        raise ValueError(f"allowed: {allowed}") from error
    return frequency


def checked_frequency(frequency: str) -> str:
    """*frequency*, if :func:`cron_of` knows what it means."""
    cron_of(frequency)
    return frequency


def checked_timezone(name: str) -> str:
    """*name*, if it is an IANA time zone.

    Raises:
        ValueError: it is none.
    """
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of zones, such as "Europe"
        raise ValueError("allowed: an IANA time zone such as UTC, Europe/Berlin or America/New_York") from error
