"""``export-pipeline run``: one run of the export, now."""

from typing import Annotated

import typer

from export_pipeline.cli.session import FAILED, JsonOption, Session, as_plain

MaxFilesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Maximum number of new files to list, and of files to deliver per subscriber; by default the deployment's "
        "max_files.",
        show_default=False,
    ),
]


def run(session: Session, max_files: MaxFilesOption = None, json: JsonOption = False) -> int:
    """Run the export once, now.

    Runs export_job in this process: lists new files, reads them, delivers what is owed. The same as Dagster's own
    `dagster job execute`, with a progress bar. Exits with 1 if something failed; what the subscribers accepted stays
    delivered, the rest stays owed.
    """
    from export_pipeline.cli import printing
    from export_pipeline.cli.runs import delivered, runner

    deployment = session.deployment(without_variables=True)
    names = deployment.names
    ops = {names.list_new_files: {"config": {"max_files": max_files}}} if max_files else {}
    with runner(session, deployment) as one:
        outcome = one.run(names.export_job, ops, title=names.export_job)
    if json:
        session.show_json(as_plain(outcome))
        return 0 if outcome.success else FAILED
    verdict = "succeeded" if outcome.success else "FAILED"
    nothing = "" if outcome.subscribers else "; nothing was owed"
    session.show(f"run {outcome.run_id[:8]} {verdict} in {outcome.seconds:.1f} s{nothing}")
    session.show(printing.lines(delivered(outcome.subscribers)))
    return 0 if outcome.success else FAILED
