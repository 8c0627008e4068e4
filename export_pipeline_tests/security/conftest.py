"""Fixtures of the tests of what docs/security.md promises."""

from export_pipeline_tests.integration.conftest import project, received

__all__ = ["project", "received"]
