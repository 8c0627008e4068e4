"""``export-pipeline follow``: a long-running process that delivers new files within seconds."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Thread
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from export_pipeline.cli.session import Session, database_errors_told

if TYPE_CHECKING:
    from export_pipeline.cli.runs import Runner
    from export_pipeline.source.queue import NotificationQueue
    from export_pipeline.source.store import Source
    from export_pipeline.steps.lookout import Lookout

EveryOption = Annotated[
    float,
    typer.Option(
        "--every", metavar="SECONDS", min=0.1, max=3600, help="Polling interval: time between two checks for new files."
    ),
]
# Maximum polling interval while the source or the queue fails (exponential backoff).
_LONGEST_PAUSE_SECONDS = 60.0
# Enough from the shortest interval to the longest pause; 2 to the power of a day's failures would be no float.
_MOST_DOUBLINGS = 10
# As OTEL_METRIC_EXPORT_INTERVAL is by default.
_PUSH_SECONDS = 60.0


def follow(session: Session, every: EveryOption = 1.0) -> int:
    """Deliver new files within seconds, until Ctrl-C or SIGTERM.

    Checks for new files every second, in the source or in the notification queue, and runs export_job in this process
    as soon as there is one, without the startup time of a new process. Each run is a Dagster run, with its log in the
    UI; a check that finds nothing starts none. What a subscriber did not accept is retried when the schedule would be
    due. The schedule can stay on: while a run is in progress, neither starts another one. The deployment file is read
    once: restart this command after a change.
    """
    from export_pipeline.cli.runs import runner
    from export_pipeline.source.queue import NotificationQueue
    from export_pipeline.source.store import open_source

    deployment = session.deployment(without_variables=True)
    # A script that starts it with & has it ignore SIGINT, and Dagster gives SIGTERM the handler of SIGINT in each run.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with runner(session, deployment) as one:
        source = open_source(deployment.source)
        queue = NotificationQueue(deployment.source) if deployment.source.is_notified else None
        try:
            one.say(f"following {source.url}: checking for new files every {every:g} s")
            with _pushing_metrics(one):
                _Follower(one, source, queue).go_on(every)
        except KeyboardInterrupt:
            one.say("stopped; the next run delivers what was not delivered")
        finally:
            source.close()
            if queue is not None:
                queue.close()
    return 0


@contextmanager
def _pushing_metrics(runner: "Runner") -> Iterator[None]:
    """Inside the block push metrics every minute, beside the looks and runs, so that no collector delays them."""
    if runner.deployment.metrics.otlp is None:
        yield
        return
    ended = Event()

    def push() -> None:
        from export_pipeline.errors import LedgerError

        while not ended.wait(_PUSH_SECONDS):
            try:
                with database_errors_told():
                    runner.push_metrics()
            except LedgerError as error:
                runner.say(f"metrics were not pushed: {error}")

    thread = Thread(target=push, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


@dataclass(slots=True)
class _Follower:
    """Checks for new files and runs the export, in turn.

    Attributes:
        due: when the schedule would start the next run.
        told: the last reason not to check, so that it is logged once.
        started_for: run key of the last file that a run was started for: if that run could not plan it, another one is
            started no sooner than by the sensor ``new_files``.
    """

    runner: "Runner"
    source: "Source"
    queue: "NotificationQueue | None"
    due: datetime | None = None
    told: str = ""
    failures: int = field(default=0)
    started_for: str = ""

    def go_on(self, every_seconds: float) -> None:
        """Check and run until the process is terminated."""
        from export_pipeline.errors import ExportError
        from export_pipeline.steps.lookout import Lookout

        lookout = Lookout()
        while True:
            try:
                reason = self._reason_to_run(lookout)
            except ExportError as error:
                self._say_once(f"checking for new files failed; retrying: {error}")
                self.failures += 1
            else:
                self.failures = 0
                if reason:
                    self.told = ""
                    self._run(reason)
                    continue
            longest = max(every_seconds, _LONGEST_PAUSE_SECONDS)
            sleep(min(every_seconds * 2 ** min(self.failures, _MOST_DOUBLINGS), longest))

    def _reason_to_run(self, lookout: "Lookout") -> str:
        """Why a run should start now; empty if there is no reason."""
        from export_pipeline.ledger.database import utc_now
        from export_pipeline.orchestration.new_files import run_key
        from export_pipeline.orchestration.schedule import reason_to_skip
        from export_pipeline.steps.lookout import gets_on
        from export_pipeline.steps.open import discovery_settings

        deployment, ledger = self.runner.deployment, self.runner.ledger
        if reason := reason_to_skip(deployment, self.runner.instance, ledger=lambda: ledger):
            self._say_once(reason)
            return ""
        if gets_on(ledger, self.source.url):
            return "more files are waiting"
        now = utc_now()
        seen = lookout.look(self.source, ledger, discovery_settings(deployment), queue=self.queue, now=now)
        if seen:
            key = run_key(seen, "", now)
            if not seen.key or key != self.started_for:
                self.started_for = key
                return str(seen)
        return self._due(now)

    def _due(self, now: datetime) -> str:
        """Why the schedule would start a run: to list the whole lookback again, or for what is owed; empty if not."""
        from export_pipeline.configuration.schedule import next_tick
        from export_pipeline.steps.lookout import sweep_of

        deployment = self.runner.deployment
        if self.due is not None and now < self.due:
            return ""
        is_first, self.due = self.due is None, next_tick(deployment.cron, deployment.timezone, now)
        return sweep_of(deployment, self.runner.ledger).reason(now, retries=not is_first)

    def _run(self, reason: str) -> None:
        from export_pipeline.cli.runs import delivered
        from export_pipeline.orchestration.new_files import catch_up

        name = self.runner.deployment.names.export_job
        self.runner.say(f"starting a run: {reason}")
        outcome = self.runner.run(name, catch_up(self.runner.deployment), title=name)
        for name, text in delivered(outcome.subscribers):
            self.runner.say(f"{name}: {text}")

    def _say_once(self, text: str) -> None:
        if text != self.told:
            self.told = text
            self.runner.say(text)
