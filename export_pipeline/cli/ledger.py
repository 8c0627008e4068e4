"""``export-pipeline ledger``: fold old days of it now, or make a lost one again."""

from contextlib import ExitStack
from datetime import date
from typing import Annotated

import typer

from export_pipeline.cli.session import JsonOption, Session, as_plain
from export_pipeline.errors import ConfigurationError
from export_pipeline.quantities import counted

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="DAY",
        help="The first day, YYYY-MM-DD, that subscribers have not got which cannot tell what they have.",
    ),
]
IgnoreOption = Annotated[
    bool, typer.Option("--ignore-unmatched", help="Go on where a subscriber holds batches of files that are gone.")
]
RUN_ID = "ledger-rebuild"
"""What the ledger names instead of a run."""


def fold_ledger(session: Session, *, json: JsonOption = False) -> int:
    """Fold all days that ledger.keep_days allows, now.

    Runs do the same, a piece at a time. What the database no longer needs it keeps for new rows; to give it back to the
    disk is the database's own business (VACUUM).
    """
    from export_pipeline.ledger.database import utc_now
    from export_pipeline.steps.open import open_workspace
    from export_pipeline.steps.retention import fold_old_days

    deployment = session.deployment()
    keep_days = deployment.ledger.keep_days
    if keep_days is None:
        raise ConfigurationError("ledger.keep_days is not set: all days are kept; set it in the deployment file")
    count = 0
    with open_workspace(deployment) as place:
        while more := fold_old_days(place.source, place.ledger, keep_days=keep_days, now=utc_now()):
            count += more
    if json:
        session.show_json({"manifests": count})
    else:
        session.show(f"folded {counted(count, 'manifest')} of days more than {counted(keep_days, 'day')} ago")
    return 0


def rebuild_ledger(
    session: Session, *, first: FromOption = None, ignore_unmatched: IgnoreOption = False, json: JsonOption = False
) -> int:
    """Make the ledger again after it was lost, from the listing and from what subscribers hold.

    Subscribers of type files hold batches under their ids, from which the same batches are found again; these come to
    them once more, under the same names. The others get the files from the day on that --from names. A ledger that is
    not empty is left alone.
    """
    from export_pipeline.ledger.database import utc_now
    from export_pipeline.ledger.records import Run
    from export_pipeline.steps.open import discovery_settings, open_subscriber, open_workspace, wanted
    from export_pipeline.steps.rebuild import rebuild

    deployment = session.deployment()
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_subscriber(entry)) for name, entry in deployment.subscribers.items()}
        place = stack.enter_context(open_workspace(deployment))
        result = rebuild(
            place.source,
            place.ledger,
            discovery_settings(deployment),
            wanted=wanted(deployment),
            marks={name: one.delivered for name, one in opened.items() if hasattr(one, "delivered")},
            from_day=_day(first),
            run=Run(RUN_ID, utc_now()),
            ignore_unmatched=ignore_unmatched,
        )
    if json:
        session.show_json(as_plain(result))
    else:
        session.show(
            f"the ledger knows {counted(result.files, 'file')} in {counted(result.manifests, 'manifest')}, of which "
            f"{result.recovered:,} were found again by what subscribers hold; the next run goes on from there"
        )
    return 0


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--from: found {text!r}; allowed: a date, YYYY-MM-DD") from None
