"""The first op of ``backfill_job``; reading and delivering are the same ops as in ``export_job``."""

from collections.abc import Iterator
from datetime import date

from dagster import (
    Array,
    DynamicOutput,
    Enum,
    EnumValue,
    Field,
    OpDefinition,
    OpExecutionContext,
    op,
)

from export_pipeline.ledger import owed
from export_pipeline.ledger.database import utc_now
from export_pipeline.orchestration import reporting, wording
from export_pipeline.orchestration.backfills import ALL, MISSING, asked_by_run
from export_pipeline.orchestration.export import Export
from export_pipeline.orchestration.finding import discovery_settings
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.mapping import chosen_outputs, manifests_out
from export_pipeline.orchestration.names import BACKFILL_TAG, ONLY_TAG, SUBSCRIBERS_TAG
from export_pipeline.orchestration.places import LEDGER, SOURCE, Places, place_keys
from export_pipeline.orchestration.underway import mark_with_ledger, run_is_over
from export_pipeline.steps.backfill import plan_day

ONLY = Enum(
    "Only",
    [
        EnumValue(MISSING, description="What the subscribers have never got of that day."),
        EnumValue(ALL, description="Everything of that day once more, under the same batch ids."),
    ],
)


def list_day_files_op(export: Export) -> OpDefinition:
    """The op that finds a day's files and owes them to the chosen subscribers."""

    @op(
        name=export.names.list_day_files,
        required_resource_keys=place_keys(export.names, [SOURCE, LEDGER]),
        out=manifests_out("One for each manifest of the day that is delivered."),
        config_schema={
            "subscribers": Field(
                Array(str),
                is_required=False,
                description=f"Who gets the day: names out of {', '.join(export.subscribers) or 'none'}. Left out: all "
                "that are configured when the run, or the backfill of many days, is launched. In the UI's dialog for a "
                f"range of days: the tag {SUBSCRIBERS_TAG}, names joined by commas.",
            ),
            "only": Field(
                ONLY,
                default_value=MISSING,
                description="missing: what they have never got; all: everything once more, under the same batch ids. "
                f"In the UI's dialog for a range of days: the tag {ONLY_TAG}.",
            ),
        },
        description="Find the day's files, plan those never seen, and owe the day to the chosen subscribers. The "
        "cursor of new_files stays where it is.",
    )
    def list_day_files(context: OpExecutionContext) -> Iterator[DynamicOutput[None]]:
        places = Places(context.resources, export.names)
        with failures_without_secrets(export.secrets):
            if not export.subscribers:
                context.log.info(wording.NO_SUBSCRIBER.format(deployment=export.deployment))
                return
            # A broker may hand out the step of a run that is long over: it must take nothing from those that live.
            if reason := run_is_over(context, export)():
                context.log.info(f"nothing is listed: {reason}")
                return
            for name, reason in export.unusable.items():
                context.log.error(wording.unusable(name, reason))
            mark_with_ledger(context, places.ledger.open())
            asked = asked_by_run(context, export)
            source = places.source.open()
            backfill = plan_day(
                source,
                places.ledger.open(),
                discovery_settings(export, places.source),
                day=date.fromisoformat(context.partition_key),
                wanted=export.subscribers,
                chosen=asked.subscribers,
                again=asked.again,
                run_id=context.run_id,
                now=utc_now(),
                backfill_id=context.run.tags.get(BACKFILL_TAG),
                progress=reporting.listing(context),
            )
            if backfill.manifests:
                with places.ledger.open().write() as tx:
                    owed.assign(tx, backfill.manifests, backfill.found.subscriptions, context.run_id)
            reporting.left_out(context, source)
            for sentence in wording.backfill(context.partition_key, backfill):
                context.log.info(sentence)
            reporting.run_begins(context, backfill.manifests)
        yield from chosen_outputs(backfill.manifests)

    return list_day_files
