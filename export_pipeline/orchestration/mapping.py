"""The keys by which the steps of one manifest are told apart: ``read_batches[20261123_<manifest>]``."""

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
    """The output of an op that chooses manifests; none is fine.

    It is required, and so of a type: where there is no manifest, Dagster skips what depends on an optional output, and
    what depends on one of Nothing gets one all the same, and both it tells in the log of the run.
    """
    return DynamicOut(AnyValue, description=description)


class _NothingKept(IOManager):
    """Ops hand on nothing but mapping keys."""

    def handle_output(self, context: OutputContext, obj: object) -> None:
        """Keep nothing."""

    def load_input(self, context: InputContext) -> None:
        """Nothing was kept."""


_TOLD = "Ops hand on names of manifests only, so there is nothing to keep between them."
NOTHING_KEPT = {"io_manager": IOManagerDefinition.hardcoded_io_manager(_NothingKept(), description=_TOLD)}
"""Resources of the jobs themselves: no pickled file on a disk that the next machine does not have."""


def chosen_outputs(chosen: Sequence[OwedManifest]) -> Iterator[DynamicOutput[None]]:
    """One output a manifest; its key begins with the day, so that a person can tell the steps apart."""
    for manifest in chosen:
        yield DynamicOutput(None, mapping_key=f"{manifest.day:%Y%m%d}_{manifest.id}")


def manifest_of(context: OpExecutionContext) -> str:
    """The manifest that this step works on."""
    return (context.get_mapping_key() or "").rpartition("_")[2]


def day_of(step_key: str) -> date:
    """The day of the manifest that a step works on."""
    day, _, _ = step_key.rpartition("[")[2].partition("_")
    return datetime.strptime(day, "%Y%m%d").date()


def run_ids(context: OpExecutionContext) -> list[str]:
    """The run and those it re-executes."""
    run = context.run
    return [found for found in (run.run_id, run.parent_run_id, run.root_run_id) if found]
