"""The two jobs: they find files in different ways, then read and deliver in the same way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from dagster import (
    ConfigurableResource,
    DailyPartitionsDefinition,
    GraphDefinition,
    JobDefinition,
    OpDefinition,
    graph,
)

from export_pipeline.deployment import Deployment
from export_pipeline.orchestration.executors import executor_of
from export_pipeline.orchestration.finding import DUE, list_day_files_op, list_new_files_op
from export_pipeline.orchestration.last_line import ending_with_sum
from export_pipeline.orchestration.mapping import NOTHING_KEPT
from export_pipeline.orchestration.names import (
    CONFIGURED_TAG,
    EXECUTOR_TAG,
    LEDGER_TAG,
    MAX_RUNTIME_TAG,
    ONLY_TAG,
    PRIORITY_TAG,
    SUBSCRIBERS_TAG,
)
from export_pipeline.orchestration.ops import READ, deliver_op, read_batches_op, report_unreadable_op
from export_pipeline.orchestration.resources import LEDGER, LedgerResource
from export_pipeline.orchestration.underway import LONGEST_STEP_SECONDS


def export_jobs(
    deployment: Deployment, partitions: DailyPartitionsDefinition, resources: Mapping[str, ConfigurableResource[None]]
) -> tuple[JobDefinition, JobDefinition]:
    """``export_job`` and ``backfill_job``.

    Args:
        resources: all that their ops require. Dagster takes all resources of a job from the job, or none.
    """
    pipeline = _Pipeline(
        read_batches=read_batches_op(deployment),
        report_unreadable=report_unreadable_op(deployment),
        deliver={name: deliver_op(deployment, name) for name in deployment.subscribers},
    )
    # By default in the run's process: a step costs 13 to 41 ms there, 1.3 to 1.8 s in a separate process.
    ledger = cast(LedgerResource, resources[deployment.names.prefixed(LEDGER)])
    executor = ending_with_sum(
        executor_of(deployment.executor, max_run_seconds=deployment.run_seconds, ledger=ledger),
        ledger,
        deployment,
    )
    tags = {
        # dagster.yaml allows one run with this tag at a time; with the priority, new files overtake a long backfill.
        LEDGER_TAG: deployment.names.prefixed(deployment.name),
        # Tells end_lost_runs which runs hold a lock.
        EXECUTOR_TAG: deployment.executor.type,
        # A dead run in more than one process is detected no sooner.
        MAX_RUNTIME_TAG: f"{deployment.run_seconds + LONGEST_STEP_SECONDS:.0f}",
    }
    export_job = pipeline.graph(
        deployment.names.export_job,
        first=list_new_files_op(deployment),
        description="Find new files in the source, cut them into NDJSON batches, and deliver these to each subscriber.",
    ).to_job(
        executor_def=executor,
        resource_defs={**resources, **NOTHING_KEPT},
        tags={**tags, PRIORITY_TAG: "1"},
        config=_shown_first(
            deployment.names.list_new_files,
            max_files=deployment.max_files,
            **({"listing": DUE} if deployment.source.is_notified else {}),
        ),
    )
    backfill_job = pipeline.graph(
        deployment.names.backfill_job,
        first=list_day_files_op(deployment),
        description="Deliver the files of chosen days: only what the subscribers have not received, or everything "
        "again. For one day, choose it in the Launchpad. For many, use Partitions, Launch backfill; there the tags "
        f"`{SUBSCRIBERS_TAG}` (names separated by commas) and `{ONLY_TAG}` (missing or all) replace the config. "
        "Without them, all subscribers configured at the launch get what they have not received.",
    ).to_job(
        executor_def=executor,
        resource_defs={**resources, **NOTHING_KEPT},
        tags={**tags, PRIORITY_TAG: "0", CONFIGURED_TAG: ",".join(deployment.subscribers)},
        # No config here: it would override the config that a backfill is launched with.
        partitions_def=partitions,
    )
    return export_job, backfill_job


def _shown_first(op: str, **config: Any) -> dict[str, Any]:
    """The initial config in the Launchpad: the defaults that users want to change, without those of all resources."""
    return {"ops": {op: {"config": config}}}


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """The ops that both jobs share; Dagster requires that each op's name is defined once."""

    read_batches: OpDefinition
    report_unreadable: OpDefinition
    deliver: Mapping[str, OpDefinition]

    def graph(self, name: str, *, first: OpDefinition, description: str) -> GraphDefinition:
        """*first*; for each manifest that it yields, read_batches and every deliver_to_…; one report at the end."""

        def read_and_deliver(manifest):  # type: ignore[no-untyped-def]  # Dagster's handle of a future output
            batches = self.read_batches(manifest)
            for subscriber, deliver_to in self.deliver.items():
                deliver_to(getattr(batches, subscriber))
            return getattr(batches, READ)

        @graph(name=name, description=description)
        def pipeline() -> None:
            manifests = first()
            if self.deliver:
                self.report_unreadable(manifests.map(read_and_deliver).collect())

        return pipeline
