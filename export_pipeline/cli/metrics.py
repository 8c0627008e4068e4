"""``export-pipeline metrics``: figures from the ledger for Prometheus, printed, written to a file, or served."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from export_pipeline.cli.session import Session, looking_at_ledger

if TYPE_CHECKING:
    from export_pipeline.cli.outline import Outline

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="PATH",
        help="Write the metrics to this file instead, replacing it at once: for node_exporter's textfile collector, "
        "which reads files that end in .prom.",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=0,
        max=65_535,
        help="Serve the metrics on this port, under /metrics, until Ctrl-C or SIGTERM. 0: a free port.",
        show_default=False,
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        "--host", help="Address that --port listens on. Whoever can reach it can read the metrics: there is no login."
    ),
]


def metrics(session: Session, file: FileOption = None, port: PortOption = None, host: HostOption = "127.0.0.1") -> int:
    """Show lag, backlog, deliveries and quarantine as metrics for Prometheus.

    Everything comes from the ledger, which is only read: it needs no run in progress, and neither Dagster nor the
    secrets of the subscribers.
    """
    from export_pipeline.errors import ConfigurationError, ExportError
    from export_pipeline.metrics.exposition import write_file

    if file is not None and port is not None:
        raise ConfigurationError("--file and --port: choose one of them")
    outline = session.outline()
    if port is not None:
        _serve(session, outline, host, port)
    elif file is not None:
        try:
            write_file(file, _read(outline))
        except OSError as error:
            raise ExportError(f"{file} could not be written: {error.strerror}") from error
    else:
        print(_read(outline), end="")
    return 0


def _read(outline: "Outline") -> str:
    """The metrics as text, from the ledger as it is now."""
    from importlib.metadata import version

    from export_pipeline.ledger.database import utc_now
    from export_pipeline.ledger.figures import export_figures
    from export_pipeline.metrics.catalogue import metrics_of
    from export_pipeline.metrics.exposition import exposition
    from export_pipeline.storage.location import parse_location

    with looking_at_ledger(outline.ledger_url, parse_location(outline.source.url).url) as view:
        figures = export_figures(*view.known, now=utc_now()) if view.known else None
    found = metrics_of(figures, deployment=outline.name, version=version("export-pipeline"), in_use=outline.enabled)
    return exposition(found)


def _serve(session: Session, outline: "Outline", host: str, port: int) -> None:
    from datetime import datetime, timezone

    from export_pipeline.errors import ExportError
    from export_pipeline.metrics.exposition import CONTENT_TYPE
    from export_pipeline.metrics.server import Cache, MetricsServer

    def say(text: str) -> None:
        session.note(f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC {text}")

    try:
        server = MetricsServer(
            host,
            port,
            Cache(lambda: _read(outline)),
            content_type=CONTENT_TYPE,
            on_error=lambda error: say(f"a scrape was answered with 503: {error}"),
        )
    except OSError as error:
        raise ExportError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    # A script that starts it with & has it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server:
        say(f"serving metrics on {server.url}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped")
