"""Mapping keys, which identify the steps of one manifest: ``read_batches[20261123_<manifest>]``."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime

from dagster import Any as AnyValue
from dagster import (
    DynamicOut,
    DynamicOutput,
    InputContext,
    IOManager,
    IOManagerDefinition,
    OpExecutionContext,
    OutputContext,
)

from export_pipeline.ledger.owed import OwedManifest


def manifests_out(description: str) -> DynamicOut:
    """The output of an op that chooses manifests; there can be none.

    It is required and has a type: without manifests Dagster would skip what depends on an optional output, and run
    what depends on an output of type Nothing, and log either in the run.
    """
    return DynamicOut(AnyValue, description=description)


class _NothingKept(IOManager):
    """Ops pass on only mapping keys, so there is nothing to store."""

    def handle_output(self, context: OutputContext, obj: object) -> None:
        """Store nothing."""

    def load_input(self, context: InputContext) -> None:
        """Return None: nothing was stored."""


_DESCRIPTION = "Ops pass on only ids of manifests, so there is nothing to store between them."
NOTHING_KEPT = {"io_manager": IOManagerDefinition.hardcoded_io_manager(_NothingKept(), description=_DESCRIPTION)}
"""Resources of the jobs themselves: no pickled file on a disk that the next machine cannot read."""


def chosen_outputs(chosen: Sequence[OwedManifest]) -> Iterator[DynamicOutput[None]]:
    """One output per manifest; its key starts with the day, so that users can tell the steps apart."""
    for manifest in chosen:
        yield DynamicOutput(None, mapping_key=f"{manifest.day:%Y%m%d}_{manifest.id}")


def manifest_of(context: OpExecutionContext) -> str:
    """The id of the manifest that this step processes."""
    return (context.get_mapping_key() or "").rpartition("_")[2]


def day_of(step_key: str) -> date:
    """The day of the manifest that a step processes."""
    day, _, _ = step_key.rpartition("[")[2].partition("_")
    return datetime.strptime(day, "%Y%m%d").date()


def run_ids(context: OpExecutionContext) -> list[str]:
    """Ids of the run and of the runs that it re-executes."""
    run = context.run
    return [found for found in (run.run_id, run.parent_run_id, run.root_run_id) if found]
