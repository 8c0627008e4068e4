"""The sensor ``alerts``: sends failures, recoveries and log lines to the addresses under ``alerts:``.

It reads Dagster's records of runs, ticks, backfills and checks, instead of being called by them. So a run whose process
was killed is reported as well, and no export ever waits for, or fails with, the service that receives alerts.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dagster import DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SkipReason, sensor

from export_pipeline.alerting.channel import AlertState, Channel, ChannelState, from_json, hear, lost_message
from export_pipeline.alerting.happening import CRITICAL, LEVELS, Happening
from export_pipeline.alerting.sending import parts_of, send
from export_pipeline.configuration.settings import AlertSettings
from export_pipeline.deployment import Deployment
from export_pipeline.errors import AlertNotSent, ConfigurationError, DeliveryError
from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.happenings import Scope, happenings, present
from export_pipeline.secrets import EnvRef, resolve, scrub
from export_pipeline.subscribers.http_client import HttpClient, accept

# A tick costs a few short queries of Dagster's own storage.
INTERVAL_SECONDS = 10
# Dagster ends the evaluation of a sensor after 60 seconds.
_SENDING_SECONDS = 30.0
HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """A channel and its apprise URL."""

    channel: Channel
    to: str | EnvRef


@dataclass(slots=True)
class TickOutcome:
    """The result of one tick.

    Attributes:
        sent: channel and title of every message sent.
        broken: channel → why it did not accept messages.
    """

    sent: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


def alerts_sensor(deployment: Deployment) -> SensorDefinition:
    """The sensor; on by default if the deployment has ``alerts``."""
    addresses, heartbeats = addresses_of(deployment.alerts), heartbeats_of(deployment.alerts)
    names = ", ".join([*(address.channel.name for address in addresses), *heartbeats])

    @sensor(
        name=deployment.names.alerts,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING if names else DefaultSensorStatus.STOPPED,
        description="Sends failed runs, backfills, ticks and checks, log lines, and recoveries to: "
        f"{names or 'no address yet, see alerts in the deployment file'}. A failed tick names the address that did not "
        "accept messages; they are kept and retried. The cursor is the sensor's memory; reset it to start over.",
    )
    def alerts(context: SensorEvaluationContext) -> SkipReason:
        if not names:
            return SkipReason(f"no address is configured; add one under `alerts:` in {deployment.name}")
        with failures_without_secrets(deployment.secret_values()):
            repository = instigators.repository_of(context)
            scope = Scope(context.instance, deployment, repository, least_level=least_level(addresses))
            state = from_json(context.cursor)
            if state is None:
                context.update_cursor(AlertState(present(scope, time.time())).to_json())
                return SkipReason("alerts start now; earlier events are not sent")
            told = tell(scope, addresses, state, now=time.time(), heartbeats=heartbeats)
            context.update_cursor(state.to_json())
            for name, reason in told.broken.items():
                context.log.error(f"{name} did not accept an alert: {reason}")
            if told.broken:
                _fail(context, deployment, repository, state, told)
        return SkipReason(f"sent {'; '.join(told.sent)}" if told.sent else "nothing to send")

    return alerts


def addresses_of(alerts: Sequence[AlertSettings]) -> list[Address]:
    """The entries of a deployment file, each named after its variable; a second one of that name gets a number."""
    addresses: list[Address] = []
    for position, entry in enumerate(alerts):
        name = entry.to.env if isinstance(entry.to, EnvRef) else f"alerts[{position}]"
        if entry.to is None:
            continue
        if any(address.channel.name == name for address in addresses):
            name = f"{name} (alerts[{position}])"
        channel = Channel(name, LEVELS[entry.level], entry.only_runs, entry.repeat_after_minutes * 60.0)
        addresses.append(Address(channel, entry.to))
    return addresses


def heartbeats_of(alerts: Sequence[AlertSettings]) -> dict[str, str | EnvRef]:
    """Name of each heartbeat, as in logs → its URL."""
    found: dict[str, str | EnvRef] = {}
    for position, entry in enumerate(alerts):
        if entry.heartbeat is not None:
            name = entry.heartbeat.env if isinstance(entry.heartbeat, EnvRef) else f"alerts[{position}]"
            found[f"heartbeat {name}" if f"heartbeat {name}" not in found else f"heartbeat alerts[{position}]"] = (
                entry.heartbeat
            )
    return found


def least_level(addresses: Sequence[Address]) -> int:
    """The lowest level of log lines that any address gets; above all levels if none gets log lines."""
    wanted = [address.channel.level for address in addresses if not address.channel.only_runs]
    return min(wanted, default=CRITICAL + 1)


def tell(
    scope: Scope,
    addresses: Sequence[Address],
    state: AlertState,
    *,
    now: float,
    heartbeats: Mapping[str, str | EnvRef] | None = None,
) -> TickOutcome:
    """Send each address what happened since *state*, and keep what could not be sent.

    Args:
        state: updated; what an address does not accept stays in its outbox.
        now: seconds since 1970.
        heartbeats: name → URL that is called once if a run of export_job ended well since.
    """
    deployment, heartbeats = scope.deployment, heartbeats or {}
    names = [*(address.channel.name for address in addresses), *heartbeats]
    known = {name: state.channels.get(name, ChannelState()) for name in names}
    state.channels = known
    for happening in happenings(scope, state.positions, now):
        clean = _scrubbed(happening, deployment.secret_values())
        for name in heartbeats:
            known[name].is_due |= happening.is_heartbeat
        for address in addresses:
            hear(
                address.channel,
                known[address.channel.name],
                clean,
                export=deployment.names.prefixed(deployment.name),
                ui_url=deployment.ui_url or "",
                now=now,
            )
    told = TickOutcome()
    deadline = time.monotonic() + _SENDING_SECONDS
    for address in addresses:
        _deliver(address, known[address.channel.name], deployment, told, deadline)
    for name, url in heartbeats.items():
        if known[name].is_due:
            _call(name, url, known[name], deployment, told)
    return told


def _call(name: str, to: str | EnvRef, state: ChannelState, deployment: Deployment, told: TickOutcome) -> None:
    """Call a heartbeat; one that fails is called again at the next tick."""
    try:
        call_heartbeat(deployment, to)
    except (DeliveryError, ConfigurationError) as error:
        told.broken[name] = scrub(str(error), deployment.secret_values())
        return
    state.is_due = False
    told.sent.append(name)


def call_heartbeat(deployment: Deployment, to: str | EnvRef) -> None:
    """Call the URL of a heartbeat once.

    Raises:
        DeliveryError: it did not answer with success.
        ConfigurationError: the variable is not set.
    """
    client = HttpClient()
    try:
        url = resolve(to) or ""
        secrets = (*deployment.secret_values(), *parts_of(url))
        accept(client.send("GET", url, timeout_seconds=HEARTBEAT_SECONDS, secrets=secrets))
    finally:
        client.close()


def _deliver(address: Address, state: ChannelState, deployment: Deployment, told: TickOutcome, deadline: float) -> None:
    """Send the outbox, oldest first, until the address does not accept a message or the time is up."""
    name = address.channel.name
    while (state.outbox or state.lost) and time.monotonic() < deadline:
        message = state.outbox[0] if state.outbox else lost_message(state, deployment.name)
        try:
            send(resolve(address.to) or "", message, secrets=deployment.secret_values())
        except (AlertNotSent, ConfigurationError) as error:
            told.broken[name] = scrub(str(error), deployment.secret_values())
            return
        if state.outbox:
            state.outbox.pop(0)
        else:
            state.lost = 0
        told.sent.append(f"{name}: {message.title}")


def _fail(
    context: SensorEvaluationContext,
    deployment: Deployment,
    repository: instigators.Repository | None,
    state: AlertState,
    told: TickOutcome,
) -> None:
    """Fail the tick, so that it is noticed, but keep the cursor: what was read and what was sent.

    Dagster discards the cursor of a failed tick and keeps the stored one, so the new cursor is stored here.
    """
    if repository is not None:
        origin = instigators.origin_of(repository, deployment.names.alerts)
        instigators.write_cursor(context.instance, origin, state.to_json(), interval_seconds=INTERVAL_SECONDS)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in told.broken.items())
    kept = sum(len(channel.outbox) for channel in state.channels.values())
    raise AlertNotSent(f"alerts were not accepted, and are retried at the next tick ({kept} kept): {reasons}")


def _scrubbed(happening: Happening, secrets: frozenset[str]) -> Happening:
    """The same with secrets removed, because it is sent to an external service."""
    return replace(
        happening,
        problems=tuple(replace(one, text=scrub(one.text, secrets)) for one in happening.problems),
        lines=tuple(replace(one, text=scrub(one.text, secrets)) for one in happening.lines),
    )
