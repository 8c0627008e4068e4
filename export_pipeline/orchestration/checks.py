"""The asset checks: one op per kind of check, for all assets at once; their job and its schedule.

The checks run separately from the ops that materialize the assets: from an asset's page, by ``check_job``, and by its
schedule.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetSelection,
    DefaultScheduleStatus,
    Failure,
    Field,
    ScheduleDefinition,
    define_asset_job,
    in_process_executor,
    multi_asset_check,
)

from export_pipeline.configuration.schedule import cron_of
from export_pipeline.dagster_internals import UnresolvedAssetJobDefinition
from export_pipeline.deployment import Deployment
from export_pipeline.ledger import balance, sources, subscriptions
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.records import Run
from export_pipeline.orchestration import check_results
from export_pipeline.orchestration.finding import cursor_of
from export_pipeline.orchestration.guard import failures_logged
from export_pipeline.orchestration.resources import LEDGER, SOURCE, Places, discovery_settings, place_keys
from export_pipeline.steps.completeness import Comparison, Repaired, compare, days_up_to_yesterday, look, plan_missing
from export_pipeline.steps.open import wanted

ACCOUNTED, COMPLETENESS, FRESHNESS = "every_event_accounted_for", "completeness", "freshness"
_DESCRIPTIONS = {
    ACCOUNTED: "The ledger's equations hold: events framed = in batches + quarantined, and for each subscriber events "
    "in batches = accepted + refused + filtered.",
    COMPLETENESS: "Every object in a listing of the last days was planned, and delivered to each subscriber.",
    FRESHNESS: "No file waits longer than max_lag_minutes to be found or delivered.",
}


def check_specs(deployment: Deployment) -> dict[str, list[AssetCheckSpec]]:
    """Kind of check → its specs: one for the raw events, one per subscriber."""
    keys = [deployment.names.raw_events, *(deployment.names.asset(name) for name in deployment.subscribers)]
    return {
        kind: [AssetCheckSpec(kind, asset=key, description=description) for key in keys]
        for kind, description in _DESCRIPTIONS.items()
    }


def export_checks(deployment: Deployment) -> list[AssetChecksDefinition]:
    """All checks of one export."""
    specs = check_specs(deployment)
    return [
        _accounted(deployment, specs[ACCOUNTED]),
        _completeness(deployment, specs[COMPLETENESS]),
        _freshness(deployment, specs[FRESHNESS]),
    ]


def _accounted(deployment: Deployment, specs: list[AssetCheckSpec]) -> AssetChecksDefinition:
    @multi_asset_check(
        name=deployment.names.prefixed(f"check_{ACCOUNTED}"),
        specs=specs,
        can_subset=True,
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER]),
        description=_DESCRIPTIONS[ACCOUNTED],
    )
    def every_event_accounted_for(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        results = {}
        with failures_logged(context, deployment.secret_values()):
            places = Places(context.resources, deployment.names)
            with places.ledger.open().read() as tx:
                source_id = sources.source_id(tx, places.source.open().url) or 0
                results[""] = check_results.reading_balance(balance.reading_balance(tx, source_id))
                for one in subscriptions.active(tx, source_id):
                    results[one.name] = check_results.delivery_balance(balance.delivery_balance(tx, source_id, one))
        yield from _selected(context, deployment, ACCOUNTED, results)

    return every_event_accounted_for


def _completeness(deployment: Deployment, specs: list[AssetCheckSpec]) -> AssetChecksDefinition:
    days = deployment.checks.days

    @multi_asset_check(
        name=deployment.names.prefixed(f"check_{COMPLETENESS}"),
        specs=specs,
        can_subset=True,
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER]),
        config_schema={
            "first_day": Field(
                str,
                default_value="",
                description=f"First day to compare, YYYY-MM-DD. If empty, {days} days up to last_day.",
            ),
            "last_day": Field(
                str, default_value="", description="Last day to compare, YYYY-MM-DD. If empty, yesterday (UTC)."
            ),
            "repair": Field(
                bool,
                default_value=deployment.checks.repair,
                description="Plan what is missing, so that the next run delivers it.",
            ),
        },
        description=_DESCRIPTIONS[COMPLETENESS],
    )
    def completeness(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        with failures_logged(context, deployment.secret_values()):
            config: Mapping[str, Any] = context.op_execution_context.op_config
            comparison, repaired = _compare(context, deployment, config)
            results = check_results.completeness(comparison, repaired)
        yield from _selected(context, deployment, COMPLETENESS, results)

    return completeness


def _freshness(deployment: Deployment, specs: list[AssetCheckSpec]) -> AssetChecksDefinition:
    @multi_asset_check(
        name=deployment.names.prefixed(f"check_{FRESHNESS}"),
        specs=specs,
        can_subset=True,
        required_resource_keys=place_keys(deployment.names, [SOURCE, LEDGER]),
        description=_DESCRIPTIONS[FRESHNESS],
    )
    def freshness(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        with failures_logged(context, deployment.secret_values()):
            places = Places(context.resources, deployment.names)
            source, ledger = places.source.open(), places.ledger.open()
            now = utc_now()
            found = look(
                source,
                ledger,
                discovery_settings(deployment, places.source),
                cursor=cursor_of(context.instance, context.run, deployment, source, ledger).read(),
                now=now,
            )
            results = check_results.freshness(found, deployment.allowed_lag(now), now)
        yield from _selected(context, deployment, FRESHNESS, results)

    return freshness


def _compare(
    context: AssetCheckExecutionContext, deployment: Deployment, config: Mapping[str, Any]
) -> tuple[Comparison, Repaired | None]:
    places = Places(context.resources, deployment.names)
    source, ledger = places.source.open(), places.ledger.open()
    settings = discovery_settings(deployment, places.source)
    now = utc_now()
    _, yesterday = days_up_to_yesterday(now, 1)
    last_day = _day(config, "last_day") or yesterday
    first_day = _day(config, "first_day") or last_day - timedelta(days=deployment.checks.days - 1)
    if first_day > last_day:
        raise Failure(f"first_day: found {first_day}; allowed: at most last_day, {last_day}", allow_retries=False)
    comparison = compare(
        source,
        ledger,
        settings,
        first_day=first_day,
        last_day=last_day,
        wanted=list(deployment.subscribers),
        due_before=now - deployment.allowed_lag(now),
    )
    if not config["repair"] or not comparison.missing:
        return comparison, None
    repaired = plan_missing(
        source, ledger, settings, comparison.missing, wanted=wanted(deployment), run=Run(context.run.run_id, now)
    )
    return comparison, repaired


def _day(config: Mapping[str, Any], name: str) -> date | None:
    try:
        return date.fromisoformat(config[name]) if config[name] else None
    except ValueError:
        raise Failure(f"{name}: found {config[name]!r}; allowed: YYYY-MM-DD", allow_retries=False) from None


def _selected(
    context: AssetCheckExecutionContext,
    deployment: Deployment,
    kind: str,
    results: Mapping[str, check_results.Result],
) -> Iterator[AssetCheckResult]:
    """The results of the selected checks; a subscriber that the ledger does not know passes with a note."""
    wanted = context.op_execution_context.selected_asset_check_keys
    for name in ("", *deployment.subscribers):
        key = deployment.names.asset(name) if name else deployment.names.raw_events
        if any(list(one.asset_key.path) == key and one.name == kind for one in wanted):
            yield results.get(name, check_results.NOTHING_YET).of(key, kind)


def export_check_job(deployment: Deployment) -> UnresolvedAssetJobDefinition:
    """``check_job``: every check of every asset of this export."""
    keys: list[AssetCheckKey] = [spec.key for specs in check_specs(deployment).values() for spec in specs]
    return define_asset_job(
        deployment.names.check_job,
        selection=AssetSelection.checks(*keys),
        executor_def=in_process_executor,
        description="Check that the ledger's equations hold, that the listing of the last days agrees with the ledger, "
        "and that no file waits too long. It delivers nothing.",
    )


def check_schedule(deployment: Deployment, job: UnresolvedAssetJobDefinition) -> ScheduleDefinition:
    """The schedule of ``check_job``; off by default unless the deployment says ``checks: {enabled: true}``."""
    checks = deployment.checks
    return ScheduleDefinition(
        name=deployment.names.check_schedule,
        job=job,
        cron_schedule=cron_of(checks.frequency),
        execution_timezone=deployment.timezone,
        default_status=DefaultScheduleStatus.RUNNING if checks.enabled else DefaultScheduleStatus.STOPPED,
        description=f"Runs {deployment.names.check_job} ({checks.frequency}).",
    )
