"""Deployment files in a separate folder, and the messages of loading them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from export_pipeline.deployment import Deployment, load_deployment
from export_pipeline.errors import ConfigurationError

Load = Callable[..., Deployment]
Problems = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the test: empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXPORT_DEPLOYMENT", raising=False)
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """Write a deployment file and load it."""

    def _load(text: str | bytes, environ: Mapping[str, str] | None = None) -> Deployment:
        data = text if isinstance(text, bytes) else dedent(text).lstrip("\n").encode()
        (folder / "x.yaml").write_bytes(data)
        return load_deployment("x.yaml", environ or {})

    return _load


@pytest.fixture
def problems(load: Load) -> Problems:
    """Write a deployment file, load it, and return the lines of the error."""

    def _problems(text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            load(text, environ)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        return str(caught.value).splitlines()

    return _problems
