"""What the sensor ``alerts`` remembers from one tick to the next: its cursor, as JSON. It holds no address."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from export_pipeline.alerting.channel import ChannelState, Open
from export_pipeline.alerting.message import Message

_VERSION = 1


@dataclass(slots=True)
class Positions:
    """How far the sensor has read.

    Attributes:
        runs: type of event → storage id of the last one read.
        ticks: schedule or sensor → timestamp of its last tick read.
        backfills_after: timestamp; backfills made before are over.
        backfills_over: ids of later ones that were told already.
    """

    runs: dict[str, int] = field(default_factory=dict)
    ticks: dict[str, float] = field(default_factory=dict)
    backfills_after: float = 0.0
    backfills_over: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AlertState:
    """Everything that is remembered.

    Attributes:
        channels: channel's name → what it was told.
    """

    positions: Positions = field(default_factory=Positions)
    channels: dict[str, ChannelState] = field(default_factory=dict)

    def to_json(self) -> str:
        """As the sensor's cursor."""
        return json.dumps({"version": _VERSION, **asdict(self)}, separators=(",", ":"), ensure_ascii=False)


def from_json(cursor: str | None) -> AlertState | None:
    """What the cursor says; None where there is none, or one that somebody else wrote: then all begins anew."""
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
        outbox=[Message(**message) for message in data["outbox"]],
        lost=data["lost"],
    )
