"""The models of a deployment file's sections. Every field has a usable default, and its unit in its name."""

import importlib.util
import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

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

_OTLP_EXPORTER = "opentelemetry.exporter.otlp.proto.http"

StartFrom = Literal["beginning", "now"] | date
"""Where an export, or one of its subscribers, starts."""


def parse_start(value: object) -> StartFrom:
    """``beginning``, ``now``, or the date of a text ``YYYY-MM-DD``.

    Raises:
        ValueError: *value* is not one of these.
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
    """*owner*, if Dagster accepts it.

    Raises:
        ValueError: it is neither an e-mail address nor ``team:name``.
    """
    if not _EMAIL.fullmatch(owner) and not _TEAM.fullmatch(owner):
        raise ValueError("allowed: an e-mail address, or team:name")
    return owner


def checked_prefix(prefix: str) -> str:
    """*prefix*, if it is valid for the names of jobs, ops, resources and assets.

    Raises:
        ValueError: it does not have this form.
    """
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError(
            "allowed: a lower-case letter, then letters a-z, digits and underscores, at most 30 characters"
        )
    return prefix


def checked_ui_url(url: str) -> str:
    """*url* without a trailing slash.

    Raises:
        ValueError: it is not the URL of a web page.
    """
    if not _WEB.fullmatch(url):
        raise ValueError("allowed: https://host or http://host, optionally with port and path")
    return url.rstrip("/")


class Section(BaseModel):
    """One mapping of the file: unknown keys are refused, and text is never converted to a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class BatchSettings(Section):
    """The maximum size of a batch: whole events, until one more would exceed either limit."""

    max_events: int = Field(default=_BATCH.max_events, ge=1, description="Maximum number of events in a batch.")
    max_bytes: int = Field(
        default=_BATCH.max_bytes,
        ge=1,
        description="Maximum size of a batch, in bytes of NDJSON. A larger event becomes a batch by itself.",
    )


class ManifestSettings(Section):
    """The maximum size of a manifest, the files that are read and staged as one unit."""

    # Each manifest is at least two steps of Dagster: with 100 small files per manifest, CPU time is 2.5 times as high.
    max_files: int = Field(default=1_000, ge=1, description="Maximum number of files in a manifest.")
    max_bytes: int = Field(
        default=256 * MIB,
        ge=1,
        description="Maximum total size of a manifest's files as stored, in bytes, to keep staging small. A larger "
        "file becomes a manifest by itself.",
    )


class LimitSettings(Section):
    """Limits against decompression bombs and endless lines; what exceeds a limit is quarantined."""

    max_event_bytes: int = Field(default=_READ.max_event_bytes, ge=1, description="Maximum size of an event, in bytes.")
    max_depth: int = Field(
        default=_READ.max_depth, ge=1, description="Maximum nesting of an event's objects and lists, in levels."
    )
    max_unpacked_ratio: int = Field(
        default=_READ.max_unpacked_ratio,
        ge=1,
        description="Maximum compression ratio of a file: decompressed bytes per stored byte.",
    )
    max_unpacked_bytes: int = Field(
        default=_READ.max_unpacked_bytes, ge=1, description="Maximum decompressed size of a file, in bytes."
    )


class RetentionSettings(Section):
    """Retention of old data in Dagster's storage."""

    runs_days: int | None = Field(
        default=30,
        ge=1,
        description="Age, in days, at which a run of export_job that succeeded, found nothing and had nothing to "
        "deliver is deleted from Dagster's storage, with its log. Dagster itself keeps runs for ever. All other runs "
        "are kept. null: keep these, too.",
    )


class ExportSettings(Section):
    """The top-level keys of a deployment file."""

    frequency: Annotated[str, AfterValidator(checked_frequency)] = Field(
        default="ten_minutes",
        description="How often the export runs: ten_minutes, hourly, twicedaily, daily, weekly, or a cron expression "
        "of five fields.",
    )
    timezone: Annotated[str, AfterValidator(checked_timezone)] = Field(
        default="UTC", description="IANA time zone of frequency."
    )
    enabled: bool = Field(
        default=True,
        description="false: the schedule and the sensor skip every tick. A run that you start by hand still runs.",
    )
    max_files: int = Field(
        default=100,
        ge=1,
        description="Maximum number of new files that one run lists, and of files that it delivers to each subscriber; "
        "at least one manifest.",
    )
    catch_up_max_files: int = Field(
        default=1_000, ge=1, description="max_files of runs that the sensor new_files starts to drain a backlog."
    )
    sweep_minutes: int = Field(
        default=60,
        ge=1,
        description="Time between two complete listings (lookback included) while the sensor new_files is on, in "
        "minutes. The sensor then starts the runs, and the schedule starts one only if this time has passed or "
        "something is owed. With notifications, source.notifications.listing_every_seconds takes its place.",
    )
    lookback_hours: float = Field(
        default=26,
        ge=0,
        description="How far before the last listed key a listing starts, in hours, so that late files are found. "
        "Firehose retries for 24 hours.",
    )
    start_from: Annotated[StartFrom, BeforeValidator(parse_start)] = Field(
        default="beginning",
        description="Where the first run with a new ledger starts: beginning, now, or a date (YYYY-MM-DD).",
    )
    max_attempts: int = Field(
        default=5, ge=1, description="Number of runs that try to read an unreadable file before it is quarantined."
    )
    max_run_seconds: int | None = Field(
        default=None,
        ge=1,
        description="Time budget of a run, in seconds. After it no new manifest or batch starts; the rest stays owed, "
        "and the next run continues. Reading a manifest in progress stops after at least half the budget; the current "
        "file then counts a failed attempt, and is retried alone. By default the shortest time between two ticks, but "
        "at least 60 and at most 3,600.",
    )
    owners: list[Annotated[str, AfterValidator(checked_owner)]] = Field(
        default=[],
        description="Owners of the assets, shown in the UI: e-mail addresses, or team:name.",
    )
    max_lag_minutes: int | None = Field(
        default=None,
        ge=1,
        description="Maximum age of a file that a subscriber has not received yet, in minutes; above it the check "
        "freshness fails and, with alerts, the subscriber's lag is reported. By default, for the check only, twice the "
        "longest time between two ticks, and at least 60.",
    )
    prefix: Annotated[str, AfterValidator(checked_prefix)] = Field(
        default="",
        description="Prefix of the names of jobs, ops, schedules, sensors, resources and assets, so that several "
        "exports fit into one code location: web gives web_export_job and the asset web/raw_events. Do not change it "
        "later: Dagster stores toggles, cursor and history under these names.",
    )
    ui_url: Annotated[str, AfterValidator(checked_ui_url)] | None = Field(
        default=None, description="URL of Dagster's UI, such as https://dagster.example.com, for links in alerts."
    )
    batch: BatchSettings = Field(default=BatchSettings(), description="Maximum size of a batch.")
    manifest: ManifestSettings = Field(default=ManifestSettings(), description="Maximum size of a manifest.")
    retention: RetentionSettings = Field(
        default=RetentionSettings(), description="Retention of old data in Dagster's storage."
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="Limits of a single file or event.")


class AlertSettings(Section):
    """One address for alerts, or one that is called while all is well."""

    to: Secret | None = Field(
        default=None,
        repr=False,
        description="An apprise URL, as {env: NAME}: mailtos://…, slack://…, msteams://…, pagerduty://…, discord://…, "
        "json://… and more than a hundred others.",
    )
    heartbeat: Secret | None = Field(
        default=None,
        repr=False,
        description="Instead of to: an http or https URL that gets a GET request after each run of export_job that "
        "ended well, for [a dead man's switch](alerts.md#know-that-nothing-runs).",
    )
    level: Literal["info", "warning", "error", "critical"] = Field(
        default="error",
        description="The lowest level that is sent. A failed run, backfill or tick is an error; so is a failed "
        "check, unless it says warning or critical.",
    )
    only_runs: bool = Field(
        default=False,
        description="true: send failures (of runs, backfills, ticks, checks) and recoveries, but no log lines.",
    )
    repeat_after_minutes: int = Field(
        default=240,
        ge=1,
        description="Time for which the same problem, or the same log line, is not sent again, in minutes.",
    )

    @model_validator(mode="after")
    def _is_either(self) -> "AlertSettings":
        if (self.to is None) == (self.heartbeat is None):
            raise ValueError("allowed: exactly one of to and heartbeat")
        return self

    @field_validator("heartbeat")
    @classmethod
    def _url_can_be_called(cls, url: str | EnvRef | None) -> str | EnvRef | None:
        if isinstance(url, str) and not url.startswith(("http://", "https://")):
            raise ValueError("allowed: an http or https URL, as {env: NAME}")
        return url

    @field_validator("to")
    @classmethod
    def _url_can_be_sent_to(cls, url: str | EnvRef | None) -> str | EnvRef | None:
        """Only the form is checked: apprise knows whether the service exists, but importing it takes a while."""
        if url is None:
            return url
        if isinstance(url, str) and "://" not in url:
            raise ValueError("allowed: an apprise URL such as slack://… or mailtos://…, as {env: NAME}")
        if importlib.util.find_spec("apprise") is None:
            raise ValueError('alerts need apprise, which is not installed: pip install "export-pipeline[alerts]"')
        return url


class OtlpSettings(Section):
    """An OpenTelemetry collector that metrics are pushed to."""

    endpoint: str | None = Field(
        default=None,
        description="Base URL of the collector's OTLP/HTTP receiver, such as http://collector:4318; /v1/metrics is "
        "appended. By default that of OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, otherwise "
        "http://localhost:4318.",
    )
    headers: dict[str, str] = Field(
        default={},
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="Headers by name, such as Authorization: {env: OTLP_TOKEN}. All values are treated as secrets.",
    )
    timeout_seconds: float = Field(
        default=2.0,
        gt=0,
        le=30,
        description="Maximum time that the end of a run waits for the collector, in seconds.",
    )

    @field_validator("endpoint")
    @classmethod
    def _can_be_pushed_to(cls, url: str | None) -> str | None:
        if url is not None and not _WEB.fullmatch(url):
            raise ValueError("allowed: https://host or http://host, optionally with port and path")
        return url

    @model_validator(mode="after")
    def _is_installed(self) -> "OtlpSettings":
        if not _has_module(_OTLP_EXPORTER):
            raise ValueError(
                "metrics over OTLP need OpenTelemetry's exporter, which is not installed: pip install "
                '"export-pipeline[otlp]"'
            )
        return self


class MetricsSettings(Section):
    """Where metrics are pushed. ``export-pipeline metrics`` needs no configuration."""

    otlp: OtlpSettings | None = Field(
        default=None,
        description="A collector that metrics are pushed to over OTLP/HTTP, at the end of each run, and every minute "
        "by export-pipeline follow. By default none; {} for one that the standard variables of OpenTelemetry name.",
    )


class CheckSettings(Section):
    """The asset checks of check_job, and their schedule."""

    enabled: bool = Field(
        default=False,
        description="true: check_schedule is on by default. The toggle in the UI takes precedence.",
    )
    frequency: Annotated[str, AfterValidator(checked_frequency)] = Field(
        default="daily",
        description="How often check_schedule runs check_job: a name or a cron expression, as for frequency.",
    )
    days: int = Field(
        default=7,
        ge=1,
        description="Number of days, up to yesterday, that the check completeness compares with the ledger.",
    )
    repair: bool = Field(
        default=False, description="true: plan files that completeness finds missing; the next run delivers them."
    )


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def alert_places(tree: dict[str, Any]) -> set[Place]:
    """The places of the alerts' addresses in a deployment file: all of them are secrets."""
    entries = tree.get("alerts")
    if not isinstance(entries, list):
        return set()
    return {("alerts", position, name) for position in range(len(entries)) for name in ("to", "heartbeat")}
