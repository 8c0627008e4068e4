"""Everything that happened to an export since the previous tick, read from Dagster's storage, and who lags."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogEntry,
    RunStatusChangeRecordsFilter,
)

from export_pipeline.alerting.channel import Positions
from export_pipeline.alerting.happening import CRITICAL, ERROR, WARNING, Failing, Happening, Line
from export_pipeline.dagster_internals import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    InstigatorTick,
    PartitionBackfill,
    TickStatus,
)
from export_pipeline.deployment import Deployment
from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.checks import ACCOUNTED
from export_pipeline.orchestration.guard import error_line
from export_pipeline.orchestration.lag import lagging
from export_pipeline.orchestration.names import LEDGER_TAG
from export_pipeline.orchestration.quarantine import DISMISS_JOB, RETRY_JOB
from export_pipeline.orchestration.underway import location_of

ASSET_JOB = "__ASSET_JOB"
"""Dagster's name for the job of checks and materializations that are started from an asset's page."""

_RECORDS_AT_ONCE = 1_000
_MOST_LINES = 100
_BACKFILL_TAG = "dagster/backfill"
_PARTITION_TAG = "dagster/partition"
# Dagster itself logs such a line for every output that was not yielded.
_OF_DAGSTER = "Skipping step "
_SENDER = re.compile(r"^\[\w+\] ")
_NUMBERS = re.compile(r"[0-9a-f]{8,}|\d+([.,:]\d+)*")
_ENDS: tuple[Literal[DagsterEventType.RUN_FAILURE], Literal[DagsterEventType.RUN_SUCCESS]]
_ENDS = (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS)
# Reading a run takes a few milliseconds, and a tick has 60 seconds.
_MOST_RUNS = 50
_MOST_BACKFILLS = 50
# A tick that never ended, because its daemon died, must not block later ones for ever.
_LONGEST_TICK_SECONDS = 3_600
# The limit is in minutes, and asking the ledger opens a connection.
_LAG_SECONDS = 60.0
_FAILURE = "dagster._core.definitions.events.Failure: "
_FAILED_BACKFILL = (BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED)


def is_of(deployment: Deployment, run: DagsterRun) -> bool:
    """Whether *run* is one of this export's jobs, runs checks of its assets, or materializes them."""
    names = deployment.names
    if run.job_name.startswith(ASSET_JOB):
        ours = [names.raw_events, *(names.asset(name) for name in deployment.subscribers)]
        chosen = [*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())]
        return any(list(key.path) in ours for key in chosen)
    if run.tags.get(LEDGER_TAG, names.prefixed(deployment.name)) != names.prefixed(deployment.name):
        return False  # a job with this name in another deployment
    of_quarantine = (names.prefixed(RETRY_JOB), names.prefixed(DISMISS_JOB))
    return run.job_name in (names.export_job, names.backfill_job, names.check_job, *of_quarantine)


def happening_of(instance: DagsterInstance, run: DagsterRun, *, least_level: int, heart: str = "") -> Happening:
    """Read a run's events.

    Args:
        least_level: log lines below it are left out.
        heart: the job whose success is a heartbeat.
    """
    reading = _Reading(run, least_level, heart)
    for entry in _entries(instance, run.run_id):
        reading.take(entry)
    return reading.happening()


def backfill_prefix(backfill_id: str) -> str:
    """The prefix of the keys of all problems of a backfill's runs."""
    return f"backfill {backfill_id}/"


class _Reading:
    """Collects problems, log lines and recoveries from the events of one run."""

    def __init__(self, run: DagsterRun, least_level: int, heart: str) -> None:
        self._run = run
        self._heart = heart
        self._least_level = least_level
        self._job, self._is_lasting = run.job_name, True
        backfill = run.tags.get(_BACKFILL_TAG)
        if run.job_name.startswith(ASSET_JOB):
            self._job, backfill = "asset checks", None
            if run.asset_selection:
                # What it left is owed, and the runs of export_job say whether that fails, too.
                self._job, self._is_lasting = "materialized assets", False
        self._prefix = backfill_prefix(backfill) if backfill else f"{self._job}/"
        self._is_backfill = backfill is not None
        self._failed: dict[str, str] = {}
        self._succeeded: set[str] = set()
        self._engine = ""
        self._run_failure = ""
        self._checks: list[Failing] = []
        self._checks_fine: list[str] = []
        self._lines: list[Line] = []
        self._lines_left_out = 0

    def take(self, entry: EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            self._take_line(entry)
        elif event.event_type is DagsterEventType.STEP_FAILURE:
            # The first failure of an op has the cause; later ones only say that they wait for the next run.
            self._failed.setdefault(_op(event.step_key), _cause(event))
            self._drop_line_of(event)
        elif event.event_type is DagsterEventType.STEP_SUCCESS:
            self._succeeded.add(_op(event.step_key))
        elif event.event_type is DagsterEventType.ENGINE_EVENT:
            self._engine = _SENDER.sub("", event.message or "")
        elif event.event_type is DagsterEventType.RUN_FAILURE:
            self._run_failure = " ".join(filter(None, [self._engine, event.message]))
        elif event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
            self._take_check(event)

    def happening(self) -> Happening:
        day = self._run.tags.get(_PARTITION_TAG)
        of = f"{self._job} for {day}" if day else self._job
        return Happening(
            subject=f"run {self._run.run_id[:8]} of {of}",
            path=f"/runs/{self._run.run_id}",
            problems=(*self._problems(), *self._checks),
            lines=tuple(self._all_lines()),
            fine=(*self._fine(), *self._checks_fine),
            is_heartbeat=self._run.status is DagsterRunStatus.SUCCESS and self._run.job_name == self._heart,
        )

    def _problems(self) -> Iterator[Failing]:
        if self._run.status is not DagsterRunStatus.FAILURE:
            return
        for op, cause in self._failed.items():
            label, text = f"{op} of {self._job}", f"{op}: {cause}"
            yield Failing(self._prefix + op, ERROR, label, text, is_lasting=self._is_lasting)
        if not self._failed:
            # No step failed, so the run itself was ended: it was killed, for example, or ran for too long.
            label = f"the process of {self._job}"
            text = f"its process was killed, or ended without an error message: {self._run_failure}"
            yield Failing(f"{self._prefix}run", ERROR, label, text, is_lasting=self._is_lasting)

    def _fine(self) -> Iterator[str]:
        if self._is_backfill:
            return  # success of another day says nothing about the one that failed; the backfill's end does
        if self._run.status is DagsterRunStatus.SUCCESS:
            yield self._prefix
            return
        for op in self._succeeded - self._failed.keys():
            yield self._prefix + op
        if self._failed:
            yield f"{self._prefix}run"

    def _take_line(self, entry: EventLogEntry) -> None:
        level = int(entry.level)
        if level < self._least_level or entry.user_message.startswith(_OF_DAGSTER):
            return
        if len(self._lines) >= _MOST_LINES:
            self._lines_left_out += 1
            return
        text = f"{_op(entry.step_key)}: {entry.user_message}" if entry.step_key else entry.user_message
        same = _NUMBERS.sub("#", f"{self._job} {level} {text}")
        self._lines.append(Line(hashlib.sha256(same.encode()).hexdigest()[:16], level, text))

    def _drop_line_of(self, event: DagsterEvent) -> None:
        """A failure is sent as a problem; the line that says the same in the run's log is not sent as well."""
        failure = event.step_failure_data.user_failure_data
        if failure is None:
            return
        told = f"{_op(event.step_key)}: {error_line(failure.description or '', failure.metadata)}"
        # It is the last line of its step, and steps may run side by side.
        for at in range(len(self._lines) - 1, -1, -1):
            if self._lines[at].text == told:
                del self._lines[at]
                return

    def _take_check(self, event: DagsterEvent) -> None:
        found = event.event_specific_data
        if not isinstance(found, AssetCheckEvaluation):
            return
        asset = found.asset_key.to_user_string()
        key, label = f"check/{asset}/{found.check_name}", f"{found.check_name} of {asset}"
        if found.passed:
            self._checks_fine.append(key)
            return
        level = ERROR if found.severity is AssetCheckSeverity.ERROR else WARNING
        level = CRITICAL if found.check_name == ACCOUNTED else level
        self._checks.append(Failing(key, level, label, f"{label}: {found.description or 'did not pass'}"))

    def _all_lines(self) -> Iterator[Line]:
        yield from self._lines
        if self._lines_left_out:
            worst = max(line.level for line in self._lines)
            yield Line(f"{self._run.run_id}/more", worst, f"… and {self._lines_left_out} more lines")


def _entries(instance: DagsterInstance, run_id: str) -> Iterator[EventLogEntry]:
    cursor = None
    while True:
        found = instance.get_records_for_run(run_id, cursor=cursor, limit=_RECORDS_AT_ONCE)
        for record in found.records:
            yield record.event_log_entry
        if not found.has_more:
            return
        cursor = found.cursor


def _op(step_key: str | None) -> str:
    """The op of a step: its key without the mapping key in brackets."""
    return (step_key or "").partition("[")[0]


def _cause(event: DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    return data.error.message.strip() if data.error is not None else "failed"


@dataclass(frozen=True, slots=True)
class Scope:
    """The export whose events are read.

    Attributes:
        repository: the code location of the export; None if unknown: then no ticks are read.
        least_level: log lines below it are left out.
    """

    instance: DagsterInstance
    deployment: Deployment
    repository: instigators.Repository | None
    least_level: int

    @property
    def location(self) -> str | None:
        """The code location's name."""
        return self.repository.code_location_origin.location_name if self.repository else None


def present(scope: Scope, now: float) -> Positions:
    """The positions to start from: nothing that happened before now is reported.

    Args:
        now: seconds since 1970.
    """
    ends = {}
    for event_type in _ENDS:
        newest = scope.instance.fetch_run_status_changes(event_type, limit=1).records
        ends[event_type.value] = newest[0].storage_id if newest else 0
    return Positions(runs=ends, ticks=dict.fromkeys(_instigators(scope.deployment), now), backfills_after=now)


def happenings(scope: Scope, positions: Positions, now: float) -> Iterator[Happening]:
    """What happened after *positions*, which advance as happenings are consumed."""
    yield from _runs(scope, positions)
    if scope.repository is not None:
        yield from _ticks(scope, scope.repository, positions, now)
    yield from _backfills(scope, positions)
    yield from _lags(scope, positions, now)


def _instigators(deployment: Deployment) -> tuple[str, ...]:
    return deployment.names.export_schedule, deployment.names.check_schedule, deployment.names.new_files


def _runs(scope: Scope, positions: Positions) -> Iterator[Happening]:
    ended: list[tuple[int, str, str]] = []
    for event_type in _ENDS:
        after = RunStatusChangeRecordsFilter(event_type, after_storage_id=positions.runs.get(event_type.value, 0))
        found = scope.instance.fetch_run_status_changes(after, limit=_MOST_RUNS, ascending=True).records
        ended += [(record.storage_id, event_type.value, record.event_log_entry.run_id) for record in found]
    for storage_id, name, run_id in sorted(ended)[:_MOST_RUNS]:
        run = scope.instance.get_run_by_id(run_id)
        if run is not None and is_of(scope.deployment, run) and _is_here(scope, run):
            heart = scope.deployment.names.export_job
            yield happening_of(scope.instance, run, least_level=scope.least_level, heart=heart)
        positions.runs[name] = storage_id


def _is_here(scope: Scope, run: DagsterRun) -> bool:
    """Whether *run* belongs to this code location, or to none, like a run from the command line."""
    location = location_of(run)
    return location is None or scope.location is None or location == scope.location


def _ticks(scope: Scope, repository: instigators.Repository, positions: Positions, now: float) -> Iterator[Happening]:
    for name in _instigators(scope.deployment):
        origin = instigators.origin_of(repository, name)
        for tick in instigators.ticks_after(scope.instance, origin, positions.ticks.setdefault(name, now)):
            if tick.status not in instigators.FINISHED and now - tick.timestamp < _LONGEST_TICK_SECONDS:
                break
            yield _tick(name, tick)
            positions.ticks[name] = tick.timestamp


def _tick(name: str, tick: InstigatorTick) -> Happening:
    key = f"tick/{name}"
    if tick.status is TickStatus.FAILURE:
        error = tick.error.cause or tick.error if tick.error else None
        cause = error.message.strip().removeprefix(_FAILURE) if error else "unknown cause"
        text = f"{name}: tick failed: {cause}"
        return Happening(f"a tick of {name}", path="/automation", problems=(Failing(key, ERROR, name, text),))
    fine = (key,) if tick.status in (TickStatus.SUCCESS, TickStatus.SKIPPED) else ()
    return Happening(f"a tick of {name}", path="/automation", fine=fine)


def _backfills(scope: Scope, positions: Positions) -> Iterator[Happening]:
    after = datetime.fromtimestamp(positions.backfills_after, timezone.utc)
    wanted = BulkActionsFilter(job_name=scope.deployment.names.backfill_job, created_after=after)
    found = [one for one in scope.instance.get_backfills(filters=wanted, limit=_MOST_BACKFILLS) if _is_ours(scope, one)]
    for one in sorted(found, key=lambda backfill: backfill.backfill_timestamp):
        if one.status in BULK_ACTION_TERMINAL_STATUSES and one.backfill_id not in positions.backfills_over:
            yield _backfill(scope, one)
            positions.backfills_over.append(one.backfill_id)
    waiting = [one.backfill_timestamp for one in found if one.status not in BULK_ACTION_TERMINAL_STATUSES]
    if found and not waiting:
        # The filter compares with the time of storing, which is slightly later than the backfill's own timestamp.
        positions.backfills_after = max(positions.backfills_after, *(one.backfill_timestamp for one in found))
    kept = {one.backfill_id for one in found}
    positions.backfills_over = [identity for identity in positions.backfills_over if identity in kept]


def _lags(scope: Scope, positions: Positions, now: float) -> Iterator[Happening]:
    if 0 <= now - positions.lag_judged_at < _LAG_SECONDS:
        return
    positions.lag_judged_at = now
    found = lagging(scope.deployment, now)
    if found is not None:
        yield found


def _is_ours(scope: Scope, backfill: PartitionBackfill) -> bool:
    origin = backfill.partition_set_origin
    if origin is None or scope.location is None:
        return True
    return origin.repository_origin.code_location_origin.location_name == scope.location


def _backfill(scope: Scope, backfill: PartitionBackfill) -> Happening:
    subject = f"backfill {backfill.backfill_id}"
    path = f"/runs/b/{backfill.backfill_id}"
    over = (backfill_prefix(backfill.backfill_id),)
    if backfill.status not in _FAILED_BACKFILL:
        return Happening(subject, path=path, over=over)
    days = len(backfill.partition_names or ())
    text = f"{subject} of {days} {'day' if days == 1 else 'days'}: some runs failed; what they had planned stays owed"
    if backfill.error is not None:
        text = f"{subject}: {backfill.error.message.strip()}"
    ended = Failing(f"{subject}/end", ERROR, subject, text, is_lasting=False)
    return Happening(subject, path=path, problems=(ended,), over=over)
