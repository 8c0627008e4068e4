"""Fixtures of the integration tests."""

from pathlib import Path

import pytest

from export_pipeline_tests.integration.project import Project


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder through which ``receivers`` are steered and read."""
    folder = tmp_path / "received"
    folder.mkdir()
    monkeypatch.setenv("RECEIVED", str(folder))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
