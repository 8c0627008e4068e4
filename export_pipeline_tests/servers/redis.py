"""A real Redis on loopback: the broker of Celery's workers."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export_pipeline_tests.servers.programs import answers, free_port, program, stop, wait_for

GET_REDIS = "apt-get install redis-server"


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Runs a server that keeps all in memory; yields the URL of its first database."""
    redis = program("redis-server", GET_REDIS)
    port, log = free_port(), folder / "redis.log"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with log.open("wb") as out:
        server = subprocess.Popen([redis, *options], stdout=out, stderr=out)
    try:
        wait_for(answers(port), processes=[server], log=log)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        stop([server])
