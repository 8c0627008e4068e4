"""Servers for all tests: real ones, each started once, on free ports of 127.0.0.1; and what makes all tests cheaper."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from export_pipeline_tests import sqlite_guard
from export_pipeline_tests.servers.other_clouds import AzureServer, GoogleServer, azure_server, google_server
from export_pipeline_tests.servers.postgres import new_database, postgres_server
from export_pipeline_tests.servers.programs import python_path
from export_pipeline_tests.servers.s3 import S3Server, ceph_server, moto_server, rclone_server, s3rver_server

sqlite_guard.watch()
# A deadline is one of wall time, which a busy machine lets pass. At night EXAMPLES is more.
settings.register_profile("busy", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "40")))
settings.load_profile("busy")

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2_000_000_000


def pytest_configure() -> None:
    """Keep temporary files in memory where the machine has a folder for that: databases wait for no disk there.

    Databases are what most tests write, and a fifth of their CPU time went to the file system. ``TMPDIR`` overrides it.
    """
    if "TMPDIR" not in os.environ and _serves(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def _serves(folder: Path) -> bool:
    """Whether it has room for temporary files, programs among them."""
    if not os.access(folder, os.W_OK):
        return False
    may_execute = not os.statvfs(folder).f_flag & os.ST_NOEXEC
    return may_execute and shutil.disk_usage(folder).free >= MEMORY_NEEDED


@pytest.fixture(scope="session", autouse=True)
def _processes_find_the_tests() -> Iterator[None]:
    """Deployment files of the tests name classes of the tests; a process started in another folder must find them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_done_twice() -> Iterator[None]:
    """See :mod:`.economies`."""
    from export_pipeline_tests import economies

    with economies.applied():
        yield


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """moto's server: S3, and STS beside it."""
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Ceph's gateway: a real S3."""
    with ceph_server(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """rclone's S3 server: one that takes the protocol lightly."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server s3rver, in JavaScript."""
    with s3rver_server(tmp_path_factory.mktemp("s3rver")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server's own database."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def new_postgres(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database, dropped after the test."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger may be made: a file, then an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    url: str = request.getfixturevalue("new_postgres")
    return url


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """Azurite: Azure Blob Storage."""
    with azure_server(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleServer]:
    """Google Cloud Storage, as fake-gcs-server has it."""
    with google_server(tmp_path_factory.mktemp("google")) as server:
        yield server


@pytest.fixture(params=["moto", "ceph"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """Each of the S3 servers that keep to the protocol, one after the other."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(params=["moto", "ceph", "rclone", "s3rver"])
def any_s3(request: pytest.FixtureRequest) -> S3Server:
    """Each of the S3 servers that package registries offer, however they keep to the protocol."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(autouse=True)
def no_login_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds credentials, regions or endpoints of the user who runs it, nor requests them from the network."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
