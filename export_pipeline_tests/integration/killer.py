"""Runs a ``dagster`` command that kills itself, without a warning, at one exact moment.

``KILL_AT`` is ``<function>:<before|after>:<n>``: right before or after the n-th call of one of the functions below.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dagster._cli import main

from export_pipeline.batching.staging import Staging
from export_pipeline.ledger import deliveries, manifests, planning
from export_pipeline.orchestration.instigators import SensorCursor
from export_pipeline.source.queue import NotificationQueue
from export_pipeline.subscribers.files import Files

PLACES: dict[str, tuple[Any, str]] = {
    "plan": (planning, "plan"),
    "move_cursor": (SensorCursor, "replace"),
    "stage": (Staging, "put"),
    "record_reading": (manifests, "record_reading"),
    "deliver_files": (Files, "deliver"),
    "accept": (deliveries, "accept"),
    "commit": (deliveries, "commit"),
    "delete_staged": (Staging, "delete"),
    "remove_messages": (NotificationQueue, "delete"),
}


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(function: Callable[..., Any], when: str, number: int) -> Callable[..., Any]:
    calls = 0

    def called(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            _kill()
        result = function(*arguments, **options)
        if calls == number and when == "after":
            _kill()
        return result

    return called


def arm(moment: str, places: dict[str, tuple[Any, str]]) -> None:
    """Let this process die at *moment*, ``<name in places>:<before|after>:<n>``."""
    name, when, number = moment.split(":")
    owner, attribute = places[name]
    setattr(owner, attribute, _deadly(getattr(owner, attribute), when, int(number)))


if __name__ == "__main__":
    arm(os.environ["KILL_AT"], PLACES)
    sys.argv[0] = "dagster"
    main()  # type: ignore[no-untyped-call]
