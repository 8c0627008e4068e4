"""Celery's executor, by which a run is known to be under way while it waits for its workers.

The run's own process does no step: it hands them out and waits, for as long as the workers have other things to do. It
holds a claim in the ledger meanwhile, so that :mod:`orchestration.lost_runs` can tell its waiting from its death.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread
from typing import Any

from dagster import ExecutorDefinition, InitExecutorContext, multiple_process_executor_requirements
from sqlalchemy.exc import SQLAlchemyError

from export_pipeline.errors import ExportError
from export_pipeline.ledger.claims import at_work
from export_pipeline.orchestration.resources import LedgerResource

_RENEW_SECONDS = 2.0
# A database that does not answer must not keep a run from ending.
_LET_GO_SECONDS = 10.0


def celery_executor_known_to(ledger: LedgerResource) -> ExecutorDefinition:
    """Dagster's own, but that the run's process holds a claim in *ledger*."""
    from dagster_celery import celery_executor

    create_celery_executor: Any = celery_executor.executor_creation_fn

    def create(context: InitExecutorContext) -> Any:
        made: Any = create_celery_executor(context)
        hand_out_and_wait = made.execute

        def execute(plan_context: Any, execution_plan: Any) -> Iterator[Any]:
            with known_to_work(ledger, plan_context.run_id):
                yield from hand_out_and_wait(plan_context, execution_plan)

        made.execute = execute
        return made

    return ExecutorDefinition(
        name=celery_executor.name,
        config_schema=celery_executor.config_schema.config_type,
        requirements=multiple_process_executor_requirements(),
        executor_creation_fn=create,
    )


@contextmanager
def known_to_work(ledger: LedgerResource, run_id: str) -> Iterator[None]:
    """Be known to *ledger* as at work for the run inside the block, whatever becomes of connections to it meanwhile."""
    ended = Event()
    with ledger.process_config_and_initialize_cm() as opened:
        holder = Thread(target=_hold, args=(opened, run_id, ended), name="claim of the run", daemon=True)
        holder.start()
        try:
            yield
        finally:
            ended.set()
            holder.join(_LET_GO_SECONDS)


def _hold(ledger: LedgerResource, run_id: str, ended: Event) -> None:
    held = ExitStack()
    while not ended.is_set():
        taken = ExitStack()
        # A ledger that is out of reach is for the steps to report, which need it. Here it is tried again.
        with suppress(SQLAlchemyError, ExportError):
            taken.enter_context(at_work(ledger.open().claims, run_id))
            # Only now, so that there is no moment without a claim. A connection that broke gave its own back already.
            with suppress(SQLAlchemyError):
                held.close()
            held = taken
        ended.wait(_RENEW_SECONDS)
    with suppress(SQLAlchemyError):
        held.close()
