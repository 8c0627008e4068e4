"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def wait_until(check: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait until *check* returns something; fails after this many seconds."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
