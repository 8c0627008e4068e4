"""Run a deployment's jobs in this process: the same jobs as in Dagster's UI, on the same instance.

Log lines are printed as they arrive. In a terminal, a progress bar below them shows the run's progress from the ledger.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from threading import Event, Thread
from time import localtime, monotonic, strftime
from typing import TYPE_CHECKING, Any, TextIO
from uuid import uuid4

from dagster import (
    BetaWarning,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    InitLoggerContext,
    logger,
)

from export_pipeline.cli.instance import dagster_instance
from export_pipeline.cli.session import Session, console_on
from export_pipeline.cli.signals import endings_noted
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.inspection import RunStanding, run_standings
from export_pipeline.orchestration import metrics
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.quantities import counted, sized
from export_pipeline.secrets import resolve
from export_pipeline.storage.location import parse_location

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from export_pipeline.deployment import Deployment

_LOOK_SECONDS = 0.5
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
_LINES = "lines"
# Dagster logs this for each delivery that is not owed, in the name of the op; it is of no use to the reader.
_SKIPPING = "Skipping step "


@dataclass(slots=True)
class RunOutcome:
    """The result of one run.

    Attributes:
        seconds: its duration.
        subscribers: subscriber → what the run delivered to it.
    """

    run_id: str
    success: bool
    seconds: float
    subscribers: dict[str, RunStanding]


@dataclass(slots=True)
class Runner:
    """Runs jobs one after the other.

    Attributes:
        console: where log lines are printed.
        bars: progress bars on the console; None if it is not a terminal.
    """

    session: Session
    deployment: "Deployment"
    instance: DagsterInstance
    ledger: Ledger
    console: "Console"
    bars: "Bars | None"
    _was_stopped: bool = False
    _definitions: Definitions | None = None

    def run(self, job: str, ops: Mapping[str, Any], *, title: str, partition: str | None = None) -> RunOutcome:
        """Run *job* to its end.

        Args:
            ops: configuration by op.
            title: title of the progress bar.
            partition: the day, for a partitioned job.

        Raises:
            KeyboardInterrupt: the run was interrupted, and Dagster has recorded it; or it ended just before.
        """
        self._was_stopped = False
        started = monotonic()
        run_id = str(uuid4())
        with endings_noted() as is_to_end, self._watched(run_id, title):
            result = (
                self._all_definitions()
                .resolve_job_def(job)
                .execute_in_process(
                    run_config={"ops": ops, "loggers": {_LINES: {}}},
                    instance=self.instance,
                    partition_key=partition,
                    raise_on_error=False,
                    run_id=run_id,
                )
            )
            self._was_stopped = self._was_stopped or is_to_end()
        if self._was_stopped:
            raise KeyboardInterrupt
        # A run that is executed here has Dagster's own executor, not the one that does this in other processes.
        if job == self.deployment.names.export_job:
            metrics.keep_end(self.ledger, self._url, succeeded=result.success)
        self.push_metrics()
        return RunOutcome(run_id, result.success, monotonic() - started, self._progress(run_id))

    def push_metrics(self) -> None:
        """Push metrics, if the deployment has a collector for them."""
        metrics.push(self.deployment, self.ledger, lambda text: self.say(text, logging.WARNING))

    @property
    def _url(self) -> str:
        return parse_location(self.deployment.source.url).url

    def _all_definitions(self) -> Definitions:
        if self._definitions is None:
            lines = Definitions(loggers={_LINES: self._lines()})
            self._definitions = Definitions.merge(definitions_of(self.deployment), lines)
        return self._definitions

    def still_owed(self, day: date, names: Sequence[str]) -> dict[str, int]:
        """Subscriber in *names* → number of files of *day* that it is still owed; only those that are owed some."""
        from export_pipeline.ledger import owed, sources

        with self.ledger.read() as tx:
            source_id = sources.source_id(tx, self._url)
            return {} if source_id is None else owed.owed_of_day(tx, source_id, names, day=day)

    @contextmanager
    def counting(self, days: int) -> Iterator[Callable[[], None]]:
        """Show how many of the *days* are done; yields a function to call after each day."""
        bars = self.bars
        if bars is None or days == 1:
            yield lambda: None
            return
        task = bars.add_task("days", total=days, detail=f"0 of {days}")
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            bars.update(task, completed=done, detail=f"{done} of {days}")

        yield count

    def say(self, text: str, level: int = logging.INFO) -> None:
        """Print a line with the time, above the progress bar if there is one."""
        from rich.text import Text

        line = Text.assemble(
            (strftime("%H:%M:%S ", localtime()), "dim"), (self.session.clean(text), _STYLES.get(level, ""))
        )
        self.session.print_to(self.console, line)

    def _progress(self, run_id: str) -> dict[str, RunStanding]:
        with self.ledger.read() as tx:
            return run_standings(tx, run_id)

    def _lines(self) -> Any:
        """A Dagster logger that passes the log lines of ops to :meth:`say`, and not those of Dagster itself."""

        @logger(config_schema={}, description="Log lines of the ops, for the terminal.")
        def lines(context: InitLoggerContext) -> logging.Logger:
            found = logging.Logger(__name__, logging.INFO)
            found.addHandler(_Handler(self._hear))
            return found

        return lines

    def _hear(self, text: str, level: int, event: DagsterEvent | None) -> None:
        if event is None:
            self.say(text, level)
        elif event.event_type is DagsterEventType.RUN_FAILURE:
            # Without raise_on_error Dagster turns Ctrl-C into a failed run; only this name distinguishes the two.
            reason = event.job_failure_data.failure_reason
            self._was_stopped = reason is not None and reason.name == "UNEXPECTED_TERMINATION"
        elif event.event_type is DagsterEventType.STEP_FAILURE:
            failure = event.step_failure_data
            if failure.error_source is not None and failure.error_source.name == "INTERRUPT":
                return
            # Our ops log their own failures.
            if failure.user_failure_data is None and failure.error is not None:
                self.say(failure.error.message.strip(), logging.ERROR)

    @contextmanager
    def _watched(self, run_id: str, title: str) -> Iterator[None]:
        """Update the progress bar while the block runs."""
        bars = self.bars
        if bars is None:
            yield
            return
        task = bars.add_task(title, total=None, detail="listing")
        ended = Event()

        def look() -> None:
            found = sum(self._progress(run_id).values(), RunStanding())
            if found.bytes_total:
                bars.update(task, total=found.bytes_total, completed=found.bytes_done, detail=_detail(found))

        def watch() -> None:
            while not ended.wait(_LOOK_SECONDS):
                look()

        thread = Thread(target=watch, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            bars.remove_task(task)


@contextmanager
def runner(session: Session, deployment: "Deployment") -> Iterator[Runner]:
    """A runner on Dagster's instance and the deployment's ledger; with a progress bar if stderr is a terminal."""
    # Dagster uses this parameter itself for every sensor.
    warnings.filterwarnings(
        "ignore", message="Parameter `owners` of initializer `SensorDefinition", category=BetaWarning
    )
    with ExitStack() as stack:
        instance = stack.enter_context(dagster_instance())
        ledger = Ledger(resolve(deployment.ledger.url) or "")
        stack.callback(ledger.close)
        console = console_on(stack.enter_context(_own_errors()))
        bars = None
        if console.is_terminal:
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None, pulse_style="cyan", complete_style="cyan"),
                TaskProgressColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
            )
            bars = stack.enter_context(Bars(*columns, console=console, transient=True, expand=True))
        yield Runner(session, deployment, instance, ledger, console, bars)


@contextmanager
def _own_errors() -> Iterator[TextIO]:
    """A duplicate of standard error: while a step runs, Dagster redirects the original to a file."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except OSError:
        # It was replaced by an object that is not a file, as in tests; Dagster does not redirect that.
        yield sys.stderr
        return
    with open(descriptor, "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1) as stream:
        yield stream


def delivered(subscribers: Mapping[str, RunStanding]) -> Iterator[tuple[str, str]]:
    """One line per subscriber: its name, and ``36 files, 3,000 events (1.2 MB as stored)``."""
    for name, found in subscribers.items():
        some = "" if found.files_done == found.files_total else f"{found.files_done:,} of "
        files = f"{some}{counted(found.files_total, 'file')}"
        yield name, f"{files}, {counted(found.events, 'event')} ({sized(found.bytes_done)} as stored)"


def _detail(progress: RunStanding) -> str:
    return f"{sized(progress.bytes_done)} of {sized(progress.bytes_total)}, {counted(progress.events, 'event')}"


class _Handler(logging.Handler):
    """Forwards the log lines of ops, and Dagster's events."""

    def __init__(self, hear: Callable[[str, int, DagsterEvent | None], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one record."""
        meta = getattr(record, "dagster_meta", {})
        text = meta.get("orig_message") or record.getMessage()
        if not text.startswith(_SKIPPING):
            self._hear(text, record.levelno, meta.get("dagster_event"))
