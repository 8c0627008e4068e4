"""Names of the jobs, ops, schedules, sensors, resources and assets of an export."""

from dataclasses import dataclass

from export_pipeline.configuration.settings import checked_prefix
from export_pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one export. Exports in one code location have different prefixes.

    Args:
        prefix: empty, or a lower-case letter and up to 29 letters, digits and underscores: ``web`` gives
            ``web_export_job``, ``web_list_new_files``, the resource ``web_source`` and the asset ``web/raw_events``.

    Raises:
        ConfigurationError: the prefix does not have this form.
    """

    prefix: str = ""

    def __post_init__(self) -> None:
        try:
            checked_prefix(self.prefix)
        except ValueError as error:
            raise ConfigurationError(f"prefix: found {self.prefix!r}; {error}") from None

    def prefixed(self, name: str) -> str:
        """The name in Dagster of the job, op, schedule, sensor or resource *name*."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def asset(self, name: str) -> list[str]:
        """The key of the asset called *name*, a subscriber or ``raw_events``, part by part."""
        return [self.prefix, name] if self.prefix else [name]

    @property
    def export_job(self) -> str:
        """The job that delivers new files."""
        return self.prefixed("export_job")

    @property
    def backfill_job(self) -> str:
        """The job that delivers chosen days."""
        return self.prefixed("backfill_job")

    @property
    def export_schedule(self) -> str:
        """The schedule of the export job."""
        return self.prefixed("export_schedule")

    @property
    def check_job(self) -> str:
        """The job that runs the asset checks."""
        return self.prefixed("check_job")

    @property
    def check_schedule(self) -> str:
        """The schedule of the checks."""
        return self.prefixed("check_schedule")

    @property
    def alerts(self) -> str:
        """The sensor that sends alerts."""
        return self.prefixed("alerts")

    @property
    def new_files(self) -> str:
        """The sensor whose cursor shows how far the source is listed."""
        return self.prefixed("new_files")

    @property
    def list_new_files(self) -> str:
        """The first op of the export job."""
        return self.prefixed("list_new_files")

    @property
    def list_day_files(self) -> str:
        """The first op of the backfill job."""
        return self.prefixed("list_day_files")

    @property
    def deliver_days(self) -> str:
        """The op that materializes the subscribers' assets."""
        return self.prefixed("deliver_days")

    @property
    def raw_events(self) -> list[str]:
        """The key of the asset of the events as read, part by part."""
        return self.asset("raw_events")

    @property
    def quarantine(self) -> list[str]:
        """The key of the asset of what could not be delivered, part by part."""
        return self.asset("quarantine")
