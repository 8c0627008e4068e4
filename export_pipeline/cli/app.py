"""The commands by name. Each imports what it needs when it is called, so that ``--help`` is fast."""

from typing import Annotated

import typer

from export_pipeline.cli import (
    check,
    demo,
    dev,
    events,
    follow,
    init,
    ledger,
    metrics,
    quarantine,
    replay,
    run,
    status,
    why,
)
from export_pipeline.cli.session import command

app = typer.Typer(
    help="Inspect and run an export from the command line.\n\nExit codes: 0 success, 1 failed or unhealthy, "
    "2 invalid command line or deployment file, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"export-pipeline {version('export-pipeline')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


command(app, "status")(status.status)
command(app, "why")(why.why)
command(app, "check")(check.check)
command(app, "events")(events.events)
command(app, "run")(run.run)
command(app, "follow")(follow.follow)
command(app, "metrics")(metrics.metrics)
command(app, "replay")(replay.replay)
quarantined = typer.Typer(help="Inspect what could not be delivered, and retry or dismiss it.", no_args_is_help=True)
command(quarantined, "list")(quarantine.list_quarantine)
command(quarantined, "show")(quarantine.show_quarantined)
command(quarantined, "retry")(quarantine.retry_quarantine)
command(quarantined, "dismiss")(quarantine.dismiss_quarantine)
command(quarantined, "export")(quarantine.export_quarantine)
app.add_typer(quarantined, name="quarantine")
ledgers = typer.Typer(help="Fold old days of the ledger, or rebuild a lost ledger.", no_args_is_help=True)
command(ledgers, "fold")(ledger.fold_ledger)
command(ledgers, "rebuild")(ledger.rebuild_ledger)
app.add_typer(ledgers, name="ledger")
command(app, "dev")(dev.dev)
command(app, "init", of_deployment=False)(init.init)
command(app, "demo", of_deployment=False)(demo.demo)
