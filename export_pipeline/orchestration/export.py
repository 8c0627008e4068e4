"""What the ops need to know of a deployment, beyond its resources."""

from dataclasses import dataclass

from export_pipeline.configuration.executor import ExecutorSettings
from export_pipeline.configuration.settings import AlertSettings, CheckSettings
from export_pipeline.ledger.planning import PlanLimits
from export_pipeline.orchestration.names import Names
from export_pipeline.source.file import ReadLimits


@dataclass(frozen=True, slots=True)
class Watching:
    """How one export is watched.

    Attributes:
        owners: whom the assets belong to.
        alerts: where alerts go.
        checks: what check_job looks at, and when.
        max_lag_minutes: how old an undelivered file may be; None: as :func:`orchestration.lag.allowed_lag` has it.
        cron, timezone: when the export is due.
        ui_url: where Dagster's UI is reached, for links; None: not known.
    """

    owners: tuple[str, ...]
    alerts: tuple[AlertSettings, ...]
    checks: CheckSettings
    max_lag_minutes: int | None
    cron: str
    timezone: str
    ui_url: str | None


@dataclass(frozen=True, slots=True)
class Export:
    """One deployment, as far as it is the same for every run.

    Attributes:
        deployment: the file's name, for messages.
        subscribers: name → since (now, beginning, a date) or None; in the order of the file.
        unusable: those of them that cannot be set up → why.
        start_from: where subscribers without since start in a new ledger.
        frequency: as configured, for messages.
        max_run_seconds: how long after its start a run begins new work.
        keep_days: days that the ledger keeps in full; None: all.
        runs_days: days that Dagster keeps runs which found nothing; None: for ever.
        executor: what runs the steps.
        is_notified: a queue tells of new files, and the source is only listed now and then.
        secrets: values that must appear in no text.
        names: what its jobs, ops, sensors, resources and assets are called.
        watching: what looks after it.
    """

    deployment: str
    subscribers: dict[str, str | None]
    unusable: dict[str, str]
    enabled: bool
    frequency: str
    max_files: int
    catch_up_max_files: int
    lookback_hours: float
    start_from: str
    plan_limits: PlanLimits
    read_limits: ReadLimits
    max_attempts: int
    max_run_seconds: float
    keep_days: int | None
    runs_days: int | None
    executor: ExecutorSettings
    is_notified: bool
    secrets: frozenset[str]
    names: Names
    watching: Watching
