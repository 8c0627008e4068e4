"""The end of a run, in the process that executes it, when all its steps have ended: its sum as a line, and metrics."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from dagster import DagsterEventType, ExecutorDefinition, InitExecutorContext
from sqlalchemy.exc import SQLAlchemyError

from export_pipeline.deployment import Deployment
from export_pipeline.errors import ExportError
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration import metrics, reporting
from export_pipeline.orchestration.resources import LedgerResource
from export_pipeline.storage.location import parse_location


def ending_with_sum(executor: ExecutorDefinition, ledger: LedgerResource, deployment: Deployment) -> ExecutorDefinition:
    """*executor*, which logs the sum of a run after its last step, whether they succeeded or failed.

    Then it records in the ledger how a run of export_job ended, and pushes metrics if the deployment says where to.

    An op cannot do that: Dagster skips an op after one that failed.

    Args:
        ledger: of the export.
    """
    create_executor: Any = executor.executor_creation_fn

    def create(context: InitExecutorContext) -> Any:
        made: Any = create_executor(context)
        execute_steps: Callable[[Any, Any], Iterator[Any]] = made.execute

        def execute(plan_context: Any, execution_plan: Any) -> Iterator[Any]:
            succeeded = True
            for event in execute_steps(plan_context, execution_plan):
                succeeded &= event.event_type is not DagsterEventType.STEP_FAILURE
                yield event
            _end(plan_context, ledger, deployment, succeeded=succeeded)

        made.execute = execute
        return made

    return ExecutorDefinition(
        name=executor.name,
        config_schema=executor.config_schema,  # type: ignore[arg-type]  # accepted as it is, with its default
        requirements=executor.get_requirements,
        executor_creation_fn=create,
        description=executor.description,
    )


def _end(plan_context: Any, ledger: LedgerResource, deployment: Deployment, *, succeeded: bool) -> None:
    url = parse_location(deployment.source.url).url
    record = plan_context.instance.get_run_record_by_id(plan_context.run_id)
    started = record.start_time if record is not None and record.start_time else time.time()
    try:
        with ledger.process_config_and_initialize_cm() as initialized:
            opened: Ledger = initialized.open()  # type: ignore[attr-defined]
            since = datetime.fromtimestamp(started, timezone.utc)
            sentence = reporting.run_ended(opened, url, plan_context.run_id, since=since)
            if plan_context.job_name == deployment.names.export_job:
                metrics.keep_end(opened, url, succeeded=succeeded)
            metrics.push(deployment, opened, plan_context.log.warning)
    except (ExportError, SQLAlchemyError) as error:
        # The steps that needed the ledger have said why.
        plan_context.log.warning(f"the sum of this run is unknown: the ledger failed ({type(error).__name__})")
        return
    plan_context.log.info(sentence)
