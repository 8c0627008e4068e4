"""All that happened to an export since the last look, out of what Dagster keeps."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from dagster import DagsterEventType, DagsterInstance, DagsterRun, RunStatusChangeRecordsFilter

from export_pipeline.alerting.happening import ERROR, Happening, Problem
from export_pipeline.alerting.state import Positions
from export_pipeline.dagster_internals import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    InstigatorTick,
    PartitionBackfill,
    TickStatus,
)
from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.run_happenings import backfill_prefix, happening_of, is_of
from export_pipeline.orchestration.underway import location_of

_ENDS: tuple[Literal[DagsterEventType.RUN_FAILURE], Literal[DagsterEventType.RUN_SUCCESS]]
_ENDS = (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS)
# Reading a run costs a few milliseconds, and a tick has a minute.
_MOST_RUNS = 50
_MOST_BACKFILLS = 50
# A tick that began and never ended, since its daemon died, must not stand in the way for ever.
_LONGEST_TICK_SECONDS = 3_600
_FAILURE = "dagster._core.definitions.events.Failure: "
_FAILED_BACKFILL = (BulkActionStatus.FAILED, BulkActionStatus.COMPLETED_FAILED)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose happenings are read.

    Attributes:
        repository: the code location of the export; None: not known, and no ticks are read.
        least_level: log lines below it are left out.
    """

    instance: DagsterInstance
    export: Export
    repository: instigators.Repository | None
    least_level: int

    @property
    def location(self) -> str | None:
        """The code location's name."""
        return self.repository.code_location_origin.location_name if self.repository else None


def present(scope: Scope, now: float) -> Positions:
    """Where reading begins: nothing that has happened up to now is told.

    Args:
        now: seconds since 1970.
    """
    ends = {}
    for event_type in _ENDS:
        newest = scope.instance.fetch_run_status_changes(event_type, limit=1).records
        ends[event_type.value] = newest[0].storage_id if newest else 0
    return Positions(runs=ends, ticks=dict.fromkeys(_instigators(scope.export), now), backfills_after=now)


def happenings(scope: Scope, positions: Positions, now: float) -> Iterator[Happening]:
    """What happened behind *positions*, which move as it is taken."""
    yield from _runs(scope, positions)
    if scope.repository is not None:
        yield from _ticks(scope, scope.repository, positions, now)
    yield from _backfills(scope, positions)


def _instigators(export: Export) -> tuple[str, ...]:
    return export.names.export_schedule, export.names.check_schedule, export.names.new_files


def _runs(scope: Scope, positions: Positions) -> Iterator[Happening]:
    ended: list[tuple[int, str, str]] = []
    for event_type in _ENDS:
        after = RunStatusChangeRecordsFilter(event_type, after_storage_id=positions.runs.get(event_type.value, 0))
        found = scope.instance.fetch_run_status_changes(after, limit=_MOST_RUNS, ascending=True).records
        ended += [(record.storage_id, event_type.value, record.event_log_entry.run_id) for record in found]
    for storage_id, name, run_id in sorted(ended)[:_MOST_RUNS]:
        run = scope.instance.get_run_by_id(run_id)
        if run is not None and is_of(scope.export, run) and _is_here(scope, run):
            yield happening_of(scope.instance, run, least_level=scope.least_level)
        positions.runs[name] = storage_id


def _is_here(scope: Scope, run: DagsterRun) -> bool:
    """Whether *run* belongs to this code location, or to none, as a run from the command line."""
    location = location_of(run)
    return location is None or scope.location is None or location == scope.location


def _ticks(scope: Scope, repository: instigators.Repository, positions: Positions, now: float) -> Iterator[Happening]:
    for name in _instigators(scope.export):
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
        cause = error.message.strip().removeprefix(_FAILURE) if error else "no reason is known"
        text = f"{name}: its tick failed: {cause}"
        return Happening(f"a tick of {name}", path="/automation", problems=(Problem(key, ERROR, name, text),))
    fine = (key,) if tick.status in (TickStatus.SUCCESS, TickStatus.SKIPPED) else ()
    return Happening(f"a tick of {name}", path="/automation", fine=fine)


def _backfills(scope: Scope, positions: Positions) -> Iterator[Happening]:
    after = datetime.fromtimestamp(positions.backfills_after, timezone.utc)
    wanted = BulkActionsFilter(job_name=scope.export.names.backfill_job, created_after=after)
    found = [one for one in scope.instance.get_backfills(filters=wanted, limit=_MOST_BACKFILLS) if _is_ours(scope, one)]
    for one in sorted(found, key=lambda backfill: backfill.backfill_timestamp):
        if one.status in BULK_ACTION_TERMINAL_STATUSES and one.backfill_id not in positions.backfills_over:
            yield _backfill(scope, one)
            positions.backfills_over.append(one.backfill_id)
    waiting = [one.backfill_timestamp for one in found if one.status not in BULK_ACTION_TERMINAL_STATUSES]
    if found and not waiting:
        # The filter compares with the moment of writing, which lies a little behind the backfill's own.
        positions.backfills_after = max(positions.backfills_after, *(one.backfill_timestamp for one in found))
    kept = {one.backfill_id for one in found}
    positions.backfills_over = [identity for identity in positions.backfills_over if identity in kept]


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
    text = f"{subject} of {days} {'day' if days == 1 else 'days'}: runs of it failed; what they had planned stays owed"
    if backfill.error is not None:
        text = f"{subject}: {backfill.error.message.strip()}"
    ended = Problem(f"{subject}/end", ERROR, subject, text, is_lasting=False)
    return Happening(subject, path=path, problems=(ended,), over=over)
