"""Names that are seen from outside: in the UI, on the command line, in dagster.yaml and workspace.yaml."""

from dataclasses import dataclass

from dagster import AssetKey

from export_pipeline.configuration.settings import checked_prefix
from export_pipeline.errors import ConfigurationError

# A look costs one short query of the ledger, and nothing of the source.
SENSOR_INTERVAL_SECONDS = 10

# workspace.yaml pins the same name: the cursor is kept under it.
LOCATION = "export_pipeline"

# dagster.yaml allows one run with this tag at a time.
LEDGER_TAG = "export_pipeline/ledger"
# What runs the steps of a run that has this tag.
EXECUTOR_TAG = "export_pipeline/executor"
# The UI's dialog for a range of days takes tags and no config; so does `dagster job backfill`.
SUBSCRIBERS_TAG = "export_pipeline/subscribers"
ONLY_TAG = "export_pipeline/only"
# Who was configured when a run of backfill_job was made: "all" means them, also where the run starts hours later.
CONFIGURED_TAG = "export_pipeline/configured_subscribers"
# The ledger that a run works with, by the identity that is kept in it.
LEDGER_IDENTITY_TAG = "export_pipeline/ledger_identity"
# A run of export_job that found nothing, and had nothing to deliver, says so: by it old ones are purged.
FOUND_TAG, NOTHING, FILES = "export_pipeline/found", "nothing", "files"
TAG_PREFIXES = ("export_pipeline/", "export-pipeline/")
PRIORITY_TAG = "dagster/priority"
BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"
# dagster-celery asks for its own beside it.
CELERY_PRIORITY_TAG = "dagster-celery/priority"
# Dagster's run monitoring ends a run after so many seconds, also one whose process nobody has heard of since.
MAX_RUNTIME_TAG = "dagster/max_runtime"


@dataclass(frozen=True, slots=True)
class Names:
    """What one export calls its parts. Two exports in one code location differ by their prefix.

    Args:
        prefix: empty, or a lower-case letter and up to 29 letters, digits and underscores: ``web`` gives
            ``web_export_job``, ``web_list_new_files``, the resource ``web_source`` and the asset ``web/raw_events``.

    Raises:
        ConfigurationError: the prefix is not of this form.
    """

    prefix: str = ""

    def __post_init__(self) -> None:
        try:
            checked_prefix(self.prefix)
        except ValueError as error:
            raise ConfigurationError(f"prefix: found {self.prefix!r}; {error}") from None

    def prefixed(self, name: str) -> str:
        """*name* of a job, op, schedule, sensor or resource, as Dagster knows it."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def asset(self, name: str) -> AssetKey:
        """The key of the asset called *name*: a subscriber, or ``raw_events``."""
        return AssetKey([self.prefix, name] if self.prefix else [name])

    @property
    def export_job(self) -> str:
        """The job that delivers what is new."""
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
        """The job that looks whether all is well."""
        return self.prefixed("check_job")

    @property
    def check_schedule(self) -> str:
        """The schedule of the checks."""
        return self.prefixed("check_schedule")

    @property
    def alerts(self) -> str:
        """The sensor that tells people."""
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
    def raw_events(self) -> AssetKey:
        """The asset of the events as read."""
        return self.asset("raw_events")


UNPREFIXED = Names()
