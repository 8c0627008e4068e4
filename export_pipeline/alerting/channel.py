"""Which messages an address gets (new problems, repeats, recoveries), and the sensor's state as its cursor."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from export_pipeline.alerting.happening import (
    INFO,
    AlertMessage,
    Failing,
    Happening,
    Line,
    compose,
    covers,
    kind_of,
    name_of,
)

MOST_KEPT = 5
# Otherwise log lines with ever different text would fill the sensor's cursor.
_MOST_LINES = 200
_MOST_OPEN = 200
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Channel:
    """One entry under ``alerts``.

    Attributes:
        name: its name in logs: that of its environment variable, never the address.
        level: the lowest level that is sent.
        only_runs: send no log lines.
        repeat_after_seconds: how long the same problem or log line is not sent again.
    """

    name: str
    level: int
    only_runs: bool
    repeat_after_seconds: float


@dataclass(slots=True)
class Open:
    """A problem that was sent and is not resolved.

    Attributes:
        since, told: when it started, and when it was last sent, in seconds since 1970.
        times: how often it occurred.
    """

    label: str
    since: float
    told: float
    times: int = 1


@dataclass(slots=True)
class ChannelState:
    """What was sent to a channel, and what is still to be sent.

    Attributes:
        open: key of a problem → since when, and when it was sent.
        lines: key of a log line → when it was sent.
        outbox: messages not sent yet, the oldest first, at most ``MOST_KEPT``.
        lost: how many more messages were dropped, and are only counted.
        is_due: a heartbeat is still to be sent.
    """

    open: dict[str, Open] = field(default_factory=dict)
    lines: dict[str, float] = field(default_factory=dict)
    outbox: list[AlertMessage] = field(default_factory=list)
    lost: int = 0
    is_due: bool = False

    def post(self, message: AlertMessage) -> None:
        """Put *message* into the outbox, or only count it if that is full."""
        if len(self.outbox) < MOST_KEPT:
            self.outbox.append(message)
        else:
            self.lost += 1


def hear(channel: Channel, state: ChannelState, happening: Happening, *, export: str, ui_url: str, now: float) -> None:
    """Turn a happening into at most one message for the channel, and put it into the outbox.

    Args:
        state: updated.
        export: the deployment's name, for the title.
        ui_url: URL of Dagster's UI; empty if unknown.
        now: seconds since 1970.
    """
    told = _problems(state, happening, channel, now)
    lines = _lines(state, happening, channel, now)
    recovered = _recovered(state, happening, now)
    if told:
        title, kind = f"{happening.subject} failed", kind_of(max(problem.level for problem, _ in told))
    elif lines:
        worst = max(line.level for line in lines)
        title, kind = f"{happening.subject}: {name_of(worst)}", kind_of(worst)
    elif recovered:
        title, kind = f"recovered: {happening.subject}", "success"
    else:
        return
    paragraphs = [
        [text for _, text in told],
        [f"{name_of(line.level).upper()} {line.text}" for line in lines],
        recovered,
    ]
    body = "\n\n".join("\n".join(texts) for texts in paragraphs if texts)
    link = f"{ui_url}{happening.path}" if ui_url and happening.path else ""
    state.post(compose(f"[{export}] {title}", body, kind=kind, link=link))


def _problems(state: ChannelState, happening: Happening, channel: Channel, now: float) -> list[tuple[Failing, str]]:
    """The problems to send, each with its text."""
    worth = [problem for problem in happening.problems if problem.level >= channel.level]
    found = [(problem, _told(state, problem, channel, now)) for problem in worth]
    return [(problem, text) for problem, text in found if text]


def _told(state: ChannelState, problem: Failing, channel: Channel, now: float) -> str:
    """The text for the problem; empty if it was sent recently."""
    found = state.open.get(problem.key)
    if found is None:
        if problem.is_lasting and len(state.open) < _MOST_OPEN:
            state.open[problem.key] = Open(problem.label, since=now, told=now)
        return problem.text
    found.times += 1
    if now - found.told < channel.repeat_after_seconds:
        return ""
    found.told = now
    return f"{problem.text}\n(still failing, {found.times} times since {_moment(found.since)})"


def _lines(state: ChannelState, happening: Happening, channel: Channel, now: float) -> list[Line]:
    state.lines = {key: told for key, told in state.lines.items() if now - told < channel.repeat_after_seconds}
    if channel.only_runs:
        return []
    new = [line for line in happening.lines if line.level >= channel.level and line.key not in state.lines]
    for line in new[: max(0, _MOST_LINES - len(state.lines))]:
        state.lines[line.key] = now
    return new


def _recovered(state: ChannelState, happening: Happening, now: float) -> list[str]:
    failing = {problem.key for problem in happening.problems}
    sentences = []
    for key in [key for key in state.open if key not in failing]:
        if any(covers(pattern, key) for pattern in happening.over):
            del state.open[key]
        elif any(covers(pattern, key) for pattern in happening.fine):
            over = state.open.pop(key)
            times = "once" if over.times == 1 else f"{over.times} times"
            sentences.append(f"{over.label} recovered; it failed {times} since {_moment(over.since)}")
    return sentences


def lost_message(state: ChannelState, export: str) -> AlertMessage:
    """A message about those that were dropped and only counted."""
    return compose(
        f"[{export}] alerts were dropped",
        f"{state.lost} more alerts were dropped while this address did not accept messages; Dagster's UI has them all",
        kind=kind_of(INFO),
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


@dataclass(slots=True)
class Positions:
    """How far the sensor has read Dagster's storage.

    Attributes:
        runs: type of event → storage id of the last event read.
        ticks: schedule or sensor → timestamp of its last tick read.
        backfills_after: timestamp; earlier backfills are over.
        backfills_over: ids of later ones that were already reported.
        lag_judged_at: when the lag of the subscribers was last judged, in seconds since 1970.
    """

    runs: dict[str, int] = field(default_factory=dict)
    ticks: dict[str, float] = field(default_factory=dict)
    backfills_after: float = 0.0
    backfills_over: list[str] = field(default_factory=list)
    lag_judged_at: float = 0.0


@dataclass(slots=True)
class AlertState:
    """Everything that the sensor remembers.

    Attributes:
        channels: name of a channel → its state.
    """

    positions: Positions = field(default_factory=Positions)
    channels: dict[str, ChannelState] = field(default_factory=dict)

    def to_json(self) -> str:
        """The state as the sensor's cursor."""
        return json.dumps({"version": _VERSION, **asdict(self)}, separators=(",", ":"), ensure_ascii=False)


def from_json(cursor: str | None) -> AlertState | None:
    """The state in the cursor; None if there is none, or if it was edited or has another version: then start over."""
    try:
        data = json.loads(cursor or "null")
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            return None
        return AlertState(
            positions=Positions(**data["positions"]),
            channels={name: _channel(found) for name, found in data["channels"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _channel(data: dict[str, Any]) -> ChannelState:
    return ChannelState(
        open={key: Open(**found) for key, found in data["open"].items()},
        lines=data["lines"],
        outbox=[AlertMessage(**message) for message in data["outbox"]],
        lost=data["lost"],
        is_due=data.get("is_due", False),
    )
