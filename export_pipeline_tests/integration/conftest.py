"""Fixtures of the integration tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.spread import VARIABLES, SpreadProject
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.servers.rabbitmq import rabbitmq_server
from export_pipeline_tests.servers.redis import redis_server
from export_pipeline_tests.servers.s3 import S3Server


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder through which ``receivers`` are steered and read."""
    folder = tmp_path / "received"
    folder.mkdir()
    monkeypatch.setenv("RECEIVED", str(folder))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A new project in the test's folder."""
    return Project(tmp_path)


@pytest.fixture
def one_event_log(project: Project) -> None:
    """For runs in the test's own process, where creating a database for each run takes a good part of the CPU time."""
    project.keep_one_event_log()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger may be made: a file, and at night a database too, as for all tests of ledger and steps."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    url: str = request.getfixturevalue("new_postgres")
    return url


@pytest.fixture(params=["ceph", pytest.param("moto", marks=pytest.mark.thorough)])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """A real S3 server; at night also moto's, against which the tests of the source always run."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of Celery's broker, Redis or as the parameter says, which the deployment's variables have."""
    server = rabbitmq_server if getattr(request, "param", "redis") == "rabbitmq" else redis_server
    with server(tmp_path) as url:
        for name, value in (VARIABLES | {"SPREAD_BROKER": url}).items():
            monkeypatch.setenv(name, value)
        yield url


@pytest.fixture
def spread(tmp_path: Path, moto: S3Server, postgres_url: str, broker: str, received: Path) -> Iterator[SpreadProject]:
    """A project for Celery's workers; none runs yet."""
    with (
        new_database(postgres_url) as ledger,
        new_database(postgres_url) as storage,
    ):
        yield SpreadProject(tmp_path, s3=moto, ledger=ledger, storage=storage, broker=broker)
