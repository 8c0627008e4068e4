"""``export-pipeline ledger``: fold old days of the ledger now, or rebuild a lost ledger."""

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
        help="First day, YYYY-MM-DD, to deliver to subscribers that cannot report what they received.",
    ),
]
IgnoreOption = Annotated[
    bool,
    typer.Option("--ignore-unmatched", help="Continue if a subscriber holds batches of files that no longer exist."),
]
RUN_ID = "ledger-rebuild"
"""Recorded in the ledger in place of a run's id."""


def fold_ledger(session: Session, *, json: JsonOption = False) -> int:
    """Fold all days older than ledger.keep_days, now.

    Of a folded day the ledger keeps only counts and checksums. Runs do the same, a part at a time. The database reuses
    the space for new rows; to return it to the disk, run VACUUM.
    """
    from export_pipeline.ledger.database import utc_now
    from export_pipeline.steps.open import open_workspace
    from export_pipeline.steps.retention import fold_old_days

    deployment = session.deployment()
    keep_days = deployment.ledger.keep_days
    if keep_days is None:
        raise ConfigurationError("ledger.keep_days is not set, so all days are kept; set it in the deployment file")
    count = 0
    with open_workspace(deployment) as place:
        while more := fold_old_days(place.source, place.ledger, keep_days=keep_days, now=utc_now()):
            count += more
    if json:
        session.show_json({"manifests": count})
    else:
        session.show(f"folded {counted(count, 'manifest')} older than {counted(keep_days, 'day')}")
    return 0


def rebuild_ledger(
    session: Session, *, first: FromOption = None, ignore_unmatched: IgnoreOption = False, json: JsonOption = False
) -> int:
    """Rebuild a lost ledger from a listing of the source and from what subscribers hold.

    Subscribers of type files hold batches under their ids, so the same batches are recovered, and are delivered to
    them again under the same names. All other subscribers get the files from the day given with --from. A ledger that
    is not empty is not changed.
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
            f"the ledger has {counted(result.files, 'file')} in {counted(result.manifests, 'manifest')}, of which "
            f"{result.recovered:,} were recovered from what subscribers hold; the next run continues from there"
        )
    return 0


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--from: found {text!r}; allowed: a date, YYYY-MM-DD") from None
