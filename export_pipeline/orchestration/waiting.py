"""Celery's executor, by which a run is known to be under way while it waits for its workers.

The run's own process does no step: it hands them out and waits, for as long as the workers have other things to do. It
holds a claim in the ledger meanwhile, so that :mod:`orchestration.lost_runs` can tell its waiting from its death.
"""

from collections.abc import Iterator
from typing import Any

from dagster import ExecutorDefinition, InitExecutorContext, multiple_process_executor_requirements

from export_pipeline.ledger.keeping import kept_at_work
from export_pipeline.orchestration.resources import LedgerResource


def celery_executor_known_to(ledger: LedgerResource) -> ExecutorDefinition:
    """Dagster's own, but that the run's process holds a claim in *ledger*."""
    from dagster_celery import celery_executor

    create_celery_executor: Any = celery_executor.executor_creation_fn

    def create(context: InitExecutorContext) -> Any:
        made: Any = create_celery_executor(context)
        hand_out_and_wait = made.execute

        def execute(plan_context: Any, execution_plan: Any) -> Iterator[Any]:
            with ledger.process_config_and_initialize_cm() as initialized:
                opened: Any = initialized
                with kept_at_work(lambda: opened.open().claims, plan_context.run_id):
                    yield from hand_out_and_wait(plan_context, execution_plan)

        made.execute = execute
        return made

    return ExecutorDefinition(
        name=celery_executor.name,
        config_schema=celery_executor.config_schema.config_type,
        requirements=multiple_process_executor_requirements(),
        executor_creation_fn=create,
    )
