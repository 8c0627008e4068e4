"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def wait_until(check: Callable[[], object], *, seconds: float = 60) -> None:
    """Until *check* gives something; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
