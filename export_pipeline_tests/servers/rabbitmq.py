"""A real RabbitMQ on loopback: the other broker of Celery's workers."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export_pipeline_tests.servers.programs import answers, free_port, program, stop, wait_for

GET_RABBITMQ = "apt-get install rabbitmq-server"
# Debian's command of this name is for its own service only.
_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[str]:
    """Runs a server with all its data in *folder*; yields its URL. Starts in some seconds."""
    server = str(_SCRIPT) if _SCRIPT.exists() else program("rabbitmq-server", GET_RABBITMQ)
    port, nodes_port, log = free_port(), free_port(), folder / "rabbitmq.log"
    environment = {
        **os.environ,
        "HOME": str(folder),  # of the cookie that its nodes share
        "ERL_EPMD_PORT": str(nodes_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
    }
    processes: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as out:
        # Erlang would start this by itself, and leave it running.
        for command in ([program("epmd", GET_RABBITMQ)], [server]):
            processes.append(subprocess.Popen(command, stdout=out, stderr=out, env=environment))
            if len(processes) == 1:
                wait_for(answers(nodes_port), processes=processes, log=log)
    try:
        wait_for(answers(port), processes=processes, log=log)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        stop(processes)
