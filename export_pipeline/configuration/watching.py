"""How an export is watched: whom to alert, and what the daily checks look at."""

import importlib.util
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from export_pipeline.configuration.problems import Place
from export_pipeline.configuration.schedule import checked_frequency
from export_pipeline.configuration.settings import Section
from export_pipeline.secrets import EnvRef
from export_pipeline.storage.settings import Secret


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
