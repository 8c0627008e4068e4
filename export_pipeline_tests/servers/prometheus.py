"""A real Prometheus and its tool, from Debian's package prometheus."""

from export_pipeline_tests.servers.programs import program

_HOW = "apt-get install prometheus"


def promtool() -> str:
    """The path of promtool."""
    return program("promtool", _HOW)


def prometheus() -> str:
    """The path of Prometheus."""
    return program("prometheus", _HOW)
