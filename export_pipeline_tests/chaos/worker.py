"""One run of the export without Dagster's start-up, in a process that is made to be killed.

It does what the ops of ``export_job`` do, by the function that they share. A server process imports all of
this once and forks a worker for each run, so that hundreds of kills take minutes.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

from export_pipeline.deployment import Deployment, load_deployment
from export_pipeline.ledger.records import Run
from export_pipeline.steps.backfill import plan_day
from export_pipeline.steps.open import Workspace, discovery_settings, open_subscriber, open_workspace, wanted
from export_pipeline.steps.retention import fold_old_days
from export_pipeline.steps.retry import retry_quarantined
from export_pipeline.steps.run import export

# Imported late by the package, and needed by each worker: importing them here, once, spares every fork a second.
for _late in (
    "alembic.command",
    "boto3.session",
    "botocore.retries.adaptive",
    "httpx2",
    "obstore.store",
    "simdjson",
    "s3transfer.manager",
):
    importlib.import_module(_late)

FAILED_LOUDLY = 3


@dataclass(frozen=True)
class Order:
    """What one worker does, and what happens to it.

    Attributes:
        command: of :data:`COMMANDS`, done first; empty: none.
        shift_seconds: how far this worker's clock is off.
        largest_file_bytes: the disk is full for every file behind this size; None: it is not. (RLIMIT_FSIZE)
        log: file to which what went wrong is written.
    """

    deployment: Path
    run_id: str
    cursor: Path
    log: Path
    command: str = ""
    shift_seconds: float = 0.0
    largest_file_bytes: int | None = None


def work(order: Order) -> None:
    """Run once; exit with 0, or with FAILED_LOUDLY after telling the log why."""
    if order.shift_seconds:
        _shift_clock(order.shift_seconds)
    problems: list[str] = []
    if order.largest_file_bytes is not None:
        # An ulimit needs no root, and counts for every file. Writing fails with EFBIG instead of ENOSPC.
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.largest_file_bytes, hard))
    try:
        _run(order, problems)
    except Exception:  # noqa: BLE001 (as Dagster does: the run fails, whatever it was)
        problems.append(traceback.format_exc())
    if order.largest_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    if problems:
        with order.log.open("a") as log:
            log.write(json.dumps([order.run_id, problems]) + "\n")
    # No clean-up of threads: Python would wait for those of a client that hangs.
    os._exit(FAILED_LOUDLY if problems else 0)


def _run(order: Order, problems: list[str]) -> None:
    deployment = load_deployment(str(order.deployment))
    run = Run(order.run_id, _now())
    with open_workspace(deployment) as place, ExitStack() as stack:
        subscribers = {
            name: stack.enter_context(open_subscriber(entry)) for name, entry in deployment.subscribers.items()
        }
        if order.command:
            COMMANDS[order.command](place, deployment, run)

        def move_cursor(to: str) -> None:
            if to:
                order.cursor.write_text(to)

        done = export(
            place,
            discovery_settings(deployment),
            subscribers,
            cursor=order.cursor.read_text() if order.cursor.exists() else "",
            move_cursor=move_cursor,
            wanted=wanted(deployment),
            max_files=deployment.max_files,
            keep_days=None,
            run=run,
        )
    problems += [f"unreadable: {one.unreadable}" for one in done.read if one.staged is None]
    problems += ["".join(traceback.format_exception(error)) for error in done.failures]


def _retry(place: Workspace, _: Deployment, run: Run) -> None:
    names = dict.fromkeys(name for name, _ in place.quarantine.records())
    retry_quarantined(place, names, run=run)


def _fold(place: Workspace, _: Deployment, run: Run) -> None:
    fold_old_days(place.source, place.ledger, keep_days=1, now=run.now)


def _ask_for_the_first_day(place: Workspace, deployment: Deployment, run: Run, *, again: bool) -> None:
    """Owe it; the run that follows delivers it."""
    plan_day(
        place.source,
        place.ledger,
        discovery_settings(deployment),
        day=first_day(),
        wanted=wanted(deployment),
        chosen=[],
        again=again,
        run=run,
    )


COMMANDS: dict[str, Callable[[Workspace, Deployment, Run], None]] = {
    "retry": _retry,
    "fold": _fold,
    "backfill": partial(_ask_for_the_first_day, again=False),
    "replay": partial(_ask_for_the_first_day, again=True),
}
"""What a person may ask for beside the runs."""


def _now() -> datetime:
    """The time by the worker's clock."""
    return datetime.fromtimestamp(time.time(), timezone.utc)


def _shift_clock(seconds: float) -> None:
    """Set this process's clock. The package gets the time from ``utc_now`` and ``time.time`` only."""
    real = time.time

    def shifted() -> float:
        return real() + seconds

    time.time = shifted
    for name, module in list(sys.modules.items()):
        if name.startswith("export_pipeline.") and hasattr(module, "utc_now"):
            module.utc_now = _now  # type: ignore[attr-defined]


def first_day() -> date:
    """The day before yesterday: the first of the days that a campaign's files are of."""
    return datetime.now(timezone.utc).date() - timedelta(days=2)
