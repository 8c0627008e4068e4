"""One run of the export without Dagster's start-up, in a process that is made to be killed.

It does what the ops of ``export_job`` do, by the same functions and in the same order. A server process imports all of
this once and forks a worker for each run, so that hundreds of kills take minutes.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

from export_pipeline.deployment import load_deployment
from export_pipeline.ledger import owed
from export_pipeline.ledger.records import Run
from export_pipeline.steps.deliver import deliver
from export_pipeline.steps.discover import Found, discover
from export_pipeline.steps.open import Workspace, discovery_settings, open_subscriber, open_workspace, wanted
from export_pipeline.steps.read import ensure_staged
from export_pipeline.steps.retention import sweep_staging
from export_pipeline.subscribers import files, webhook
from export_pipeline.subscribers.base import Subscriber
from export_pipeline_tests.integration import killer

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
PLACES = {**killer.PLACES, "deliver_webhook": (webhook.Webhook, "deliver"), "deliver_files": (files.Files, "deliver")}
"""Name → the function at a step's boundary, right before and right after which a worker can die. ``move_cursor`` is a
cursor of Dagster's, which only Dagster's own runs move."""


@dataclass(frozen=True)
class Order:
    """What one worker does, and what happens to it.

    Attributes:
        kill_at: ``<place>:<before|after>:<n>``; empty: nothing.
        shift_seconds: how far this worker's clock is off.
        largest_file_bytes: the disk is full for every file behind this size; None: it is not. (RLIMIT_FSIZE)
        log: file to which what went wrong is written.
    """

    deployment: Path
    run_id: str
    cursor: Path
    log: Path
    kill_at: str = ""
    shift_seconds: float = 0.0
    largest_file_bytes: int | None = None


def work(order: Order) -> None:
    """Run once; exit with 0, or with FAILED_LOUDLY after telling the log why."""
    if order.kill_at:
        killer.arm(order.kill_at, PLACES)
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
    with open_workspace(deployment) as place:
        found = discover(
            place.source,
            place.ledger,
            discovery_settings(deployment),
            cursor=order.cursor.read_text() if order.cursor.exists() else "",
            wanted=wanted(deployment),
            max_files=deployment.max_files,
            run=Run(order.run_id, _now()),
        )
        if found.cursor:
            order.cursor.write_text(found.cursor)
        chosen = _choose(place, found, deployment.max_files, order.run_id)
        sweep_staging(place.staging, place.ledger, keep={manifest.id for manifest in chosen})
        with ExitStack() as stack:
            open_ones = {
                name: stack.enter_context(open_subscriber(entry)) for name, entry in deployment.subscribers.items()
            }
            for manifest in chosen:
                _deliver(place, open_ones, found, manifest, run_id=order.run_id, problems=problems)


def _choose(place: Workspace, found: Found, max_files: int, run_id: str) -> list[owed.OwedManifest]:
    with place.ledger.read() as tx:
        chosen = owed.choose(tx, found.subscriptions, max_files=max_files, max_retries=max(1, max_files // 10))
    if chosen:
        with place.ledger.write() as tx:
            owed.assign(tx, chosen, found.subscriptions, run_id)
    return chosen


def _deliver(
    place: Workspace,
    subscribers: Mapping[str, Subscriber],
    found: Found,
    manifest: owed.OwedManifest,
    *,
    run_id: str,
    problems: list[str],
) -> None:
    outcome = _step(problems, lambda: ensure_staged(place, manifest.id, run_id=run_id))
    if outcome is None or outcome.staged is None:
        problems.append(f"unreadable: {outcome and outcome.unreadable}")
        return
    for subscription in found.subscriptions:
        if subscription.name not in manifest.subscribers:
            continue
        one = subscribers[subscription.name]
        _step(problems, partial(deliver, place, manifest.id, subscription, one, run_id=run_id))


def _step(problems: list[str], call: Callable[[], Any]) -> Any:
    """What *call* gives; where it raises, this step has failed, and the others go on."""
    try:
        return call()
    except Exception:  # noqa: BLE001 (as Dagster does)
        problems.append(traceback.format_exc())
        return None


def _now() -> datetime:
    """The time by the worker's clock."""
    return datetime.fromtimestamp(time.time(), timezone.utc)


def _shift_clock(seconds: float) -> None:
    """Set this process's clock. The package tells the time by ``utc_now`` and ``time.time`` alone, where it is kept."""
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
