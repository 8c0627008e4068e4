"""``export-pipeline run``: one run of the export, now."""

from typing import Annotated

import typer

from export_pipeline.cli.session import FAILED, JsonOption, Session, as_plain

MaxFilesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Most files that are listed anew, and delivered to a subscriber; max_files of the deployment by default.",
        show_default=False,
    ),
]


def run(session: Session, max_files: MaxFilesOption = None, json: JsonOption = False) -> int:
    """Run the export once, now.

    It is export_job, in this process: list new files, read them, deliver what is owed. The same as Dagster's own
    `dagster job execute`, with a progress bar. Ends with 1 where something failed; what the subscribers took stays
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
