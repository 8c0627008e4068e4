"""The last line of a run: its sum, written by the process that executes the run, when all its steps have ended."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from dagster import ExecutorDefinition, InitExecutorContext
from sqlalchemy.exc import SQLAlchemyError

from export_pipeline.errors import ExportError
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import reporting
from export_pipeline.orchestration.resources import LedgerResource


def ending_with_sum(executor: ExecutorDefinition, ledger: LedgerResource, url: str) -> ExecutorDefinition:
    """*executor*, which logs the sum of a run after its last step, whether they succeeded or failed.

    An op cannot do that: Dagster skips an op after one that failed.

    Args:
        ledger: of the export.
        url: of its source.
    """
    create_executor: Any = executor.executor_creation_fn

    def create(context: InitExecutorContext) -> Any:
        made: Any = create_executor(context)
        execute_steps: Callable[[Any, Any], Iterator[Any]] = made.execute

        def execute(plan_context: Any, execution_plan: Any) -> Iterator[Any]:
            yield from execute_steps(plan_context, execution_plan)
            _log_sum(plan_context, ledger, url)

        made.execute = execute
        return made

    return ExecutorDefinition(
        name=executor.name,
        config_schema=executor.config_schema,  # type: ignore[arg-type]  # accepted as it is, with its default
        requirements=executor.get_requirements,
        executor_creation_fn=create,
        description=executor.description,
    )


def _log_sum(plan_context: Any, ledger: LedgerResource, url: str) -> None:
    record = plan_context.instance.get_run_record_by_id(plan_context.run_id)
    started = record.start_time if record is not None and record.start_time else time.time()
    try:
        with ledger.process_config_and_initialize_cm() as initialized:
            opened: Ledger = initialized.open()  # type: ignore[attr-defined]
            since = datetime.fromtimestamp(started, timezone.utc)
            sentence = reporting.run_ended(opened, url, plan_context.run_id, since=since)
    except (ExportError, SQLAlchemyError) as error:
        # The steps that needed the ledger have said why.
        plan_context.log.warning(f"the sum of this run is unknown: the ledger failed ({type(error).__name__})")
        return
    plan_context.log.info(sentence)
