"""A real Prometheus and its tool, from Debian's package prometheus, if they are installed."""

import shutil

import pytest


def _installed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def promtool() -> str:
    """The path of promtool; skips the test if it is not installed."""
    return _installed("promtool")


def prometheus() -> str:
    """The path of Prometheus; skips the test if it is not installed."""
    return _installed("prometheus")
