"""The sensor ``alerts``: tells people what failed, what recovered, and what the log says.

It reads what Dagster has written down of runs, ticks, backfills and checks, instead of being called by them: so a run
whose process was killed is told of as well, and no export ever waits for, or fails with, the place where alerts go.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dagster import DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SkipReason, sensor

from export_pipeline.alerting.channel import AlertState, Channel, ChannelState, from_json, hear, lost_message
from export_pipeline.alerting.happening import CRITICAL, LEVELS, Happening
from export_pipeline.alerting.sending import send
from export_pipeline.configuration.settings import AlertSettings
from export_pipeline.deployment import Deployment
from export_pipeline.errors import AlertNotSent, ConfigurationError
from export_pipeline.orchestration import instigators
from export_pipeline.orchestration.guard import failures_without_secrets
from export_pipeline.orchestration.happenings import Scope, happenings, present
from export_pipeline.secrets import EnvRef, resolve, scrub

# A look costs a handful of short queries of Dagster's own storage.
INTERVAL_SECONDS = 10
# Dagster ends the evaluation of a sensor after a minute.
_SENDING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Address:
    """A channel and where it leads."""

    channel: Channel
    to: str | EnvRef


@dataclass(slots=True)
class TickOutcome:
    """What one tick came to.

    Attributes:
        sent: channel and title of every message sent.
        broken: channel → why it does not take messages.
    """

    sent: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


def alerts_sensor(deployment: Deployment) -> SensorDefinition:
    """On from the start where the deployment has ``alerts``."""
    addresses = addresses_of(deployment.alerts)
    names = ", ".join(address.channel.name for address in addresses)

    @sensor(
        name=deployment.names.alerts,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING if addresses else DefaultSensorStatus.STOPPED,
        description="Tells people of runs, backfills, ticks and checks that failed, of log lines, and of recoveries: "
        f"{names or 'nobody yet, see alerts in the deployment file'}. A tick that fails says which address does not "
        "take messages; they are kept. Its cursor is what it remembers; reset it, and it begins anew.",
    )
    def alerts(context: SensorEvaluationContext) -> SkipReason:
        if not addresses:
            return SkipReason(f"nobody to tell; add an address under `alerts:` in {deployment.name}")
        with failures_without_secrets(deployment.secret_values()):
            repository = instigators.repository_of(context)
            scope = Scope(context.instance, deployment, repository, least_level=least_level(addresses))
            state = from_json(context.cursor)
            if state is None:
                context.update_cursor(AlertState(present(scope, time.time())).to_json())
                return SkipReason("from now on; what happened before is not told")
            told = tell(scope, addresses, state, now=time.time())
            context.update_cursor(state.to_json())
            for name, reason in told.broken.items():
                context.log.error(f"{name} does not take alerts: {reason}")
            if told.broken:
                _fail(context, deployment, repository, state, told)
        return SkipReason(f"told {'; '.join(told.sent)}" if told.sent else "nothing to tell")

    return alerts


def addresses_of(alerts: Sequence[AlertSettings]) -> list[Address]:
    """The entries of a deployment file; each is called by its variable, and a second one of that name gets a number."""
    addresses: list[Address] = []
    for position, entry in enumerate(alerts):
        name = entry.to.env if isinstance(entry.to, EnvRef) else f"alerts[{position}]"
        if any(address.channel.name == name for address in addresses):
            name = f"{name} (alerts[{position}])"
        channel = Channel(name, LEVELS[entry.level], entry.only_runs, entry.repeat_after_minutes * 60.0)
        addresses.append(Address(channel, entry.to))
    return addresses


def least_level(addresses: Sequence[Address]) -> int:
    """The lowest level of a log line that anybody is told of; above all levels where nobody is."""
    wanted = [address.channel.level for address in addresses if not address.channel.only_runs]
    return min(wanted, default=CRITICAL + 1)


def tell(scope: Scope, addresses: Sequence[Address], state: AlertState, *, now: float) -> TickOutcome:
    """Tell each address what happened since *state*, and keep what could not be sent.

    Args:
        state: moves on; what an address does not take stays in its outbox.
        now: seconds since 1970.
    """
    deployment = scope.deployment
    known = {address.channel.name: state.channels.get(address.channel.name, ChannelState()) for address in addresses}
    state.channels = known
    for happening in happenings(scope, state.positions, now):
        clean = _scrubbed(happening, deployment.secret_values())
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
    return told


def _deliver(address: Address, state: ChannelState, deployment: Deployment, told: TickOutcome, deadline: float) -> None:
    """Send what lies in the outbox, the oldest first, until the address does not take one or the time is up."""
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
    """End the tick as failed, so that it is seen, without forgetting what was read and what was sent.

    Dagster keeps no cursor of a tick that failed, but it leaves the one that it finds then: so it is written here.
    """
    if repository is not None:
        origin = instigators.origin_of(repository, deployment.names.alerts)
        instigators.write_cursor(context.instance, origin, state.to_json(), interval_seconds=INTERVAL_SECONDS)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in told.broken.items())
    kept = sum(len(channel.outbox) for channel in state.channels.values())
    raise AlertNotSent(f"alerts were not taken, and are sent again at the next tick ({kept} kept): {reasons}")


def _scrubbed(happening: Happening, secrets: frozenset[str]) -> Happening:
    """The same without any secret: it leaves the house."""
    return replace(
        happening,
        problems=tuple(replace(one, text=scrub(one.text, secrets)) for one in happening.problems),
        lines=tuple(replace(one, text=scrub(one.text, secrets)) for one in happening.lines),
    )
