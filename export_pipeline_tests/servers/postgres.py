"""A real PostgreSQL on loopback, in a folder of the test's own."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from export_pipeline_tests.servers.programs import free_port, program, stop, wait_for

GET_POSTGRES = "apt-get install postgresql"


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Run a server; yields the URL of a database, without a password.

    As root it runs in a temporary folder of its own, not in *folder*: every pytest that starts closes the folder of all
    test runs to other users, also under a server that is running there.
    """
    if os.geteuid() != 0:
        with _running(folder) as url:
            yield url
        return
    with TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as own, _running(Path(own)) as url:
        yield url


@contextmanager
def _running(folder: Path) -> Iterator[str]:
    initdb = _server_program("initdb")
    postgres = _server_program("postgres")
    data, port, log = folder / "data", free_port(), folder / "log"
    as_user = _other_user(folder)
    environment = {**os.environ, "LC_ALL": "C"}
    # A collation that sorts unlike UTF-8's bytes, as a production server's does.
    collation = ["-E", "UTF8", "--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"]
    command = [*as_user, initdb, "-D", str(data), "-U", "export", "-A", "trust", "--no-sync", *collation]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folder)
    options = ["-c", "fsync=off", "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-k", str(folder)]
    with log.open("wb") as out:
        command = [*as_user, postgres, "-D", str(data), *options]
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=folder)
    try:
        url = f"postgresql://export@127.0.0.1:{port}/postgres"
        wait_for(_takes_queries(url), processes=[server], log=log)
        yield url
    finally:
        stop([server])


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """An empty database of the server at *server_url*, dropped afterwards."""
    name = f"test_{uuid4().hex[:12]}"
    admin = create_engine(
        server_url.replace("postgresql:", "postgresql+psycopg2:"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield f"{server_url.rpartition('/')[0]}/{name}"
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _takes_queries(url: str) -> Callable[[], bool]:
    """A check whether the server lets one in: it listens a while before it does."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool)

    def check() -> bool:
        try:
            engine.connect().close()
        except OperationalError:
            return False
        return True

    return check


def _server_program(name: str) -> str:
    """Debian keeps the server's programs out of PATH, one folder a version."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(installed[-1]) if installed else program(name, GET_POSTGRES)


def _other_user(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root; then it runs as the user that its package made."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
