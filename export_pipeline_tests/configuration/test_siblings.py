"""Deployment files side by side: no two share a ledger for one source, since each would take the other's files."""

from pathlib import Path

import pytest
import yaml

from export_pipeline.deployment import load_deployment
from export_pipeline.errors import ConfigurationError

PLAIN = {"source": {"url": "s3://acme/events/"}, "subscribers": {"archive": {"type": "files", "url": "/archive"}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, in which commands run, with `deployments/first.yaml`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deployments").mkdir()
    _write("first", PLAIN)
    return tmp_path


def _write(name: str, content: object) -> None:
    Path("deployments", f"{name}.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        {**PLAIN, "source": {"url": "s3://acme/events"}},
        {**PLAIN, "source": {"url": "arn:aws:s3:::acme/events/"}},
        {**PLAIN, "ledger": {"url": "sqlite:///.dagster/export.db"}},
        {**PLAIN, "ledger": {"url": "./.dagster/../.dagster/export.db"}},
        {**PLAIN, "subscribers": {}, "prefix": "web"},
    ],
)
def test_one_source_and_one_ledger_in_two_files_are_refused(folder: Path, content: object) -> None:
    """However it is spelled, the same ledger for the same source is refused in both files, with the other's name."""
    _write("second", content)
    for name, other in (("first", "second"), ("second", "first")):
        with pytest.raises(ConfigurationError, match=f"ledger.url: {other}.yaml beside this file has the same source"):
            load_deployment(name)


@pytest.mark.parametrize(
    "content",
    [
        {**PLAIN, "source": {"url": "s3://acme/others/"}},
        {**PLAIN, "ledger": {"url": ".dagster/second.db"}},
        {**PLAIN, "ledger": {"url": {"env": "LEDGER_URL"}}},
        {"source": "nothing"},
        {},
        ["no", "mapping"],
        {**PLAIN, "source": {"url": "s9://acme"}},
    ],
)
def test_other_files_beside_it_do_no_harm(folder: Path, content: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another source or ledger, or one that is not a deployment, does not keep others from loading."""
    monkeypatch.setenv("LEDGER_URL", "postgresql://export@db.example.com/export")
    _write("second", content)
    Path("deployments", "broken.yaml").write_bytes(b"\xff{[")
    Path("deployments", "folder.yaml").mkdir()
    assert load_deployment("first").source.url == "s3://acme/events/"


def test_the_same_file_by_another_name_is_no_other_one(folder: Path) -> None:
    """A link to a deployment file beside it, as mounted configuration has them, is the same deployment."""
    Path("deployments", "current.yaml").symlink_to("first.yaml")
    assert load_deployment("current").source.url == load_deployment("first").source.url
