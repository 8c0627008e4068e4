"""``export-pipeline dev``: Dagster's UI, schedule and sensors, in this folder."""

import errno
import os
import signal
import socket
import sys
from typing import Annotated, NoReturn

import typer

from export_pipeline.cli.session import Session
from export_pipeline.configuration.location import VARIABLE, chosen
from export_pipeline.configuration.scaffold import dagster_home, workspace_file, write_settings
from export_pipeline.errors import ConfigurationError

PORT = 3000
_TRIED_PORTS = 100
_LOOPBACK = ("localhost", "127.", "::1")
# Dagster's `dev` command warns that it is superseded by `dg dev`, which starts the same processes but needs a project
# layout, and a package that this one does not otherwise use. A user who starts the UI here can do nothing about it.
_UNSAID = "ignore:Function `dev_command` is superseded"

PortOption = Annotated[
    int | None,
    typer.Option(
        "--port",
        "-p",
        min=1,
        max=65_535,
        help=f"Port of the UI; {PORT} by default, or the next free one if that is in use.",
        show_default=False,
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        "--host", help="Address that the UI listens on. Dagster has no login: anyone who can reach it can start runs."
    ),
]
MoreArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="-- OPTIONS", help="More options for `dagster dev`, such as: -- --log-level debug", show_default=False
    ),
]


def dev(
    session: Session, options: MoreArguments = None, *, port: PortOption = None, host: HostOption = "127.0.0.1"
) -> NoReturn:
    """Start Dagster's UI for this deployment, and run its schedule and sensors until Ctrl-C.

    Runs `dagster dev` with the settings of this folder, and writes workspace.yaml and dagster.yaml if they are
    missing. Runs and their logs are kept in .dagster/, or where DAGSTER_HOME says. For one machine and one terminal;
    on a server, use services that restart by themselves: docs/deployment.md.
    """
    deployment = session.deployment(without_variables=True)
    written = write_settings()
    if written:
        session.note(f"wrote {' and '.join(written)}: what Dagster loads here, and its settings")
    port = _free_port(session, host, port)
    home = dagster_home()
    session.note(
        f"Dagster's UI: http://{f'[{host}]' if ':' in host else host}:{port} for the deployment {deployment.name} "
        f"({deployment.path}), with the settings of {home / 'dagster.yaml'}. Ctrl-C stops it."
    )
    if not host.startswith(_LOOPBACK):
        session.note("Dagster's UI has no login: anyone who can reach this address can see everything and start runs.")
    os.environ["DAGSTER_HOME"] = str(home)
    # The file itself: a second one written beside it later must not change what this one runs.
    os.environ[VARIABLE] = str(chosen(session.name).path)
    command = ["-m", "dagster", "dev", "--workspace", str(workspace_file()), "--host", host, "--port", str(port)]
    # If a script started this in the background, the shell made it ignore Ctrl-C. Dagster then ignores SIGTERM too,
    # and could only be killed, which leaves its processes behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout.flush()
    sys.stderr.flush()
    # Replaces this process, so that signals reach Dagster itself.
    os.execv(sys.executable, [sys.executable, "-W", _UNSAID, *command, *(options or ())])  # noqa: S606 (no shell is meant)


def _free_port(session: Session, host: str, wanted: int | None) -> int:
    """*wanted*, or the first free port, starting at 3000.

    With a port in use, Dagster would start all its processes and then exit without an error code.

    Raises:
        ConfigurationError: it is in use, or *host* is not an address of this machine.
    """
    if wanted is not None:
        if _is_taken(host, wanted):
            raise ConfigurationError(
                f"port {wanted} of {host} is in use by another program, perhaps another `export-pipeline dev`; choose "
                "another one with --port"
            )
        return wanted
    for port in range(PORT, PORT + _TRIED_PORTS):
        if not _is_taken(host, port):
            if port != PORT:
                session.note(f"port {PORT} is in use by another program: the UI uses port {port}")
            return port
    raise ConfigurationError(
        f"ports {PORT} to {PORT + _TRIED_PORTS - 1} of {host} are in use; choose another one with --port"
    )


def _is_taken(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as one:
            # As the server does: connections of a server that has just stopped do not count.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return True
        raise ConfigurationError(f"--host {host}, port {port}: {error.strerror or error}") from None
    return False
