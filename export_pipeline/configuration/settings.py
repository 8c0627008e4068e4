"""The model of a deployment file, part by part. Every field has a default that serves, and its unit in its name."""

import importlib.util
import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from export_pipeline.batching.cutter import BatchLimits
from export_pipeline.configuration.document import Place
from export_pipeline.configuration.schedule import checked_frequency, checked_timezone
from export_pipeline.secrets import EnvRef
from export_pipeline.source.file import MIB, ReadLimits
from export_pipeline.storage.settings import Secret

_BATCH = BatchLimits()
_READ = ReadLimits()
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_TEAM = re.compile(r"team:\S+")
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,29}")
_WEB = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")

StartFrom = Literal["beginning", "now"] | date
"""Where an export, or a subscriber of it, starts."""


def parse_start(value: object) -> StartFrom:
    """``beginning``, ``now``, or the date of a text ``YYYY-MM-DD``.

    Raises:
        ValueError: *value* is none of them.
    """
    if value == "beginning" or value == "now":  # noqa: PLR1714 (mypy narrows the literal by this form)
        return value
    if isinstance(value, str) and len(value) == len("YYYY-MM-DD"):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ValueError("allowed: beginning, now, or a date that exists (YYYY-MM-DD)") from error
    raise ValueError("allowed: beginning, now, or a date (YYYY-MM-DD)")


def checked_owner(owner: str) -> str:
    """*owner*, if it is what Dagster takes for one.

    Raises:
        ValueError: it is neither an e-mail address nor ``team:name``.
    """
    if not _EMAIL.fullmatch(owner) and not _TEAM.fullmatch(owner):
        raise ValueError("allowed: an e-mail address, or team:name")
    return owner


def checked_prefix(prefix: str) -> str:
    """*prefix*, if the names of jobs, ops, resources and assets may begin with it.

    Raises:
        ValueError: it is not of this form.
    """
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError(
            "allowed: a lower-case letter, then letters a-z, digits and underscores, 30 characters at most"
        )
    return prefix


def checked_ui_url(url: str) -> str:
    """*url* without a slash at its end.

    Raises:
        ValueError: it is no address of a web page.
    """
    if not _WEB.fullmatch(url):
        raise ValueError("allowed: https://host, or http://host, with port and path where there are some")
    return url.rstrip("/")


class Section(BaseModel):
    """One mapping of the file: unknown keys are refused, and a text is never read as a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class BatchSettings(Section):
    """How large a batch may grow: whole events, until one more would pass either limit."""

    max_events: int = Field(default=_BATCH.max_events, ge=1, description="Most events in a batch.")
    max_bytes: int = Field(
        default=_BATCH.max_bytes,
        ge=1,
        description="Most bytes of NDJSON in a batch. An event larger than this is a batch of its own.",
    )


class ManifestSettings(Section):
    """How many files are read and staged as one unit."""

    # Each manifest is two steps of Dagster and more: small files cost two and a half times as much CPU by the hundred.
    max_files: int = Field(default=1_000, ge=1, description="Most files in a manifest.")
    max_bytes: int = Field(
        default=256 * MIB,
        ge=1,
        description="Most bytes in a manifest's files as they are stored, so that staging stays small. A file larger "
        "than this is a manifest of its own.",
    )


class LimitSettings(Section):
    """What keeps a decompression bomb or an endless line from taking all memory; what passes one is quarantined."""

    max_event_bytes: int = Field(default=_READ.max_event_bytes, ge=1, description="Longest event, in bytes.")
    max_depth: int = Field(
        default=_READ.max_depth, ge=1, description="Deepest nesting of an event's objects and lists, in levels."
    )
    max_unpacked_ratio: int = Field(
        default=_READ.max_unpacked_ratio,
        ge=1,
        description="Most bytes a file may unpack to for each byte that is stored.",
    )
    max_unpacked_bytes: int = Field(
        default=_READ.max_unpacked_bytes, ge=1, description="Most bytes a file may unpack to, whatever its ratio."
    )


class RetentionSettings(Section):
    """What is deleted once it is old."""

    runs_days: int | None = Field(
        default=30,
        ge=1,
        description="After how many days a run of export_job that succeeded, found nothing and had nothing to deliver "
        "is deleted from Dagster's storage, with its log: Dagster itself keeps runs for ever. All other runs stay. "
        "null: these stay, too.",
    )


class ExportSettings(Section):
    """The keys of a deployment file that stand at its top."""

    frequency: Annotated[str, AfterValidator(checked_frequency)] = Field(
        default="ten_minutes",
        description="How often the export runs: ten_minutes, hourly, twicedaily, daily, weekly, or a cron expression "
        "of five fields.",
    )
    timezone: Annotated[str, AfterValidator(checked_timezone)] = Field(
        default="UTC", description="The IANA time zone in which frequency is read."
    )
    enabled: bool = Field(
        default=True,
        description="false: the schedule and the sensor skip every tick. A run started by hand still runs.",
    )
    max_files: int = Field(
        default=100,
        ge=1,
        description="Most files that one run lists anew, and delivers to a subscriber; at least one manifest.",
    )
    catch_up_max_files: int = Field(
        default=1_000, ge=1, description="The same for a run that the sensor new_files starts to drain a backlog."
    )
    sweep_minutes: int = Field(
        default=60,
        ge=1,
        description="While the sensor new_files is on, it starts the runs. A tick of the schedule then starts one only "
        "if something is owed, or if the source was last listed, lookback included, so many minutes ago.",
    )
    lookback_hours: float = Field(
        default=26,
        ge=0,
        description="How far before the last listed key a listing begins, in hours, so that late files are found. "
        "Firehose "
        "retries for 24 hours.",
    )
    start_from: Annotated[StartFrom, BeforeValidator(parse_start)] = Field(
        default="beginning",
        description="Where the first run of a new ledger starts: beginning, now, or a date (YYYY-MM-DD).",
    )
    max_attempts: int = Field(
        default=5, ge=1, description="How many runs try to read an unreadable file before it is quarantined."
    )
    max_run_seconds: int | None = Field(
        default=None,
        ge=1,
        description="How long after its start a run begins a manifest or a batch, in seconds. What is left stays owed, "
        "and the next run goes on with it. A reading that is under way ends once it has had half of that time as well; "
        "the file at hand counts a failed try, and is tried alone. By default the shortest time between two ticks, but "
        "at least 60 and at most 3,600.",
    )
    owners: list[Annotated[str, AfterValidator(checked_owner)]] = Field(
        default=[],
        description="Whom the assets belong to, as the UI shows it: e-mail addresses, or team:name.",
    )
    max_lag_minutes: int | None = Field(
        default=None,
        ge=1,
        description="How old a file may be that a subscriber has not got yet, before the check freshness fails. By "
        "default twice the longest time between two ticks, and at least 60.",
    )
    prefix: Annotated[str, AfterValidator(checked_prefix)] = Field(
        default="",
        description="Begins the names of jobs, ops, schedules, sensors, resources and assets, so that several exports "
        "fit into one code location: web gives web_export_job and the asset web/raw_events. A change makes new ones: "
        "Dagster keeps toggles, cursor and history under the names.",
    )
    ui_url: Annotated[str, AfterValidator(checked_ui_url)] | None = Field(
        default=None, description="Where Dagster's UI is reached, https://dagster.example.com, for links in alerts."
    )
    batch: BatchSettings = Field(default=BatchSettings(), description="How large a batch may grow.")
    manifest: ManifestSettings = Field(default=ManifestSettings(), description="How many files are read as one unit.")
    retention: RetentionSettings = Field(default=RetentionSettings(), description="What is deleted once it is old.")
    limits: LimitSettings = Field(default=LimitSettings(), description="What a single file or event may cost.")


class AlertSettings(Section):
    """One place where alerts go."""

    to: Secret = Field(
        repr=False,
        description="An apprise URL, as {env: NAME}: mailtos://…, slack://…, msteams://…, pagerduty://…, discord://…, "
        "json://… and more than a hundred others.",
    )
    level: Literal["info", "warning", "error", "critical"] = Field(
        default="error",
        description="The lowest level that is sent. A run, backfill or tick that failed is an error; so is a failed "
        "check, unless it says warning or critical.",
    )
    only_runs: bool = Field(
        default=False,
        description="true: send what failed (runs, backfills, ticks, checks) and what recovered, but no log lines.",
    )
    repeat_after_minutes: int = Field(
        default=240,
        ge=1,
        description="For how long the same problem, or the same log line, is not sent again.",
    )

    @field_validator("to")
    @classmethod
    def _url_can_be_sent_to(cls, url: str | EnvRef) -> str | EnvRef:
        """Checked by its look only: apprise knows whether the service exists, and takes a while to be imported."""
        if isinstance(url, str) and "://" not in url:
            raise ValueError("allowed: an apprise URL, such as slack://… or mailtos://…, as {env: NAME}")
        if importlib.util.find_spec("apprise") is None:
            raise ValueError('alerts need apprise, which is not installed: pip install "export-pipeline[alerts]"')
        return url


class CheckSettings(Section):
    """What check_job looks at."""

    enabled: bool = Field(
        default=False,
        description="true: check_schedule is on from the start. The toggle in the UI has the last word.",
    )
    frequency: Annotated[str, AfterValidator(checked_frequency)] = Field(
        default="daily",
        description="How often check_schedule runs check_job: a name or a cron expression, as the export's frequency.",
    )
    days: int = Field(
        default=7,
        ge=1,
        description="How many days, up to yesterday, the check completeness compares with the ledger.",
    )
    repair: bool = Field(
        default=False, description="true: what completeness finds missing is planned, and the next run delivers it."
    )


def alert_places(tree: dict[str, Any]) -> set[Place]:
    """Where in a deployment file the addresses of alerts stand: secrets, each of them."""
    entries = tree.get("alerts")
    return {("alerts", position, "to") for position in range(len(entries))} if isinstance(entries, list) else set()
