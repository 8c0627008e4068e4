"""``export-pipeline ledger``: fold old days of it now, or make a lost one again."""

from contextlib import ExitStack
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from export_pipeline.cli.session import JsonOption, Session, as_plain
from export_pipeline.errors import ConfigurationError
from export_pipeline.quantities import counted

if TYPE_CHECKING:
    from export_pipeline.deployment import Deployment
    from export_pipeline.steps.discover import DiscoverySettings

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
    folded = 0
    with open_workspace(deployment) as place:
        while more := fold_old_days(place.source, place.ledger, keep_days=keep_days, now=utc_now()):
            folded += more
    if json:
        session.show_json({"manifests": folded})
    else:
        session.show(f"folded {counted(folded, 'manifest')} of days more than {counted(keep_days, 'day')} ago")
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
    from export_pipeline.steps.open import open_subscriber, open_workspace
    from export_pipeline.steps.rebuild import rebuild

    deployment = session.deployment()
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_subscriber(entry)) for name, entry in deployment.subscribers.items()}
        place = stack.enter_context(open_workspace(deployment))
        result = rebuild(
            place.source,
            place.ledger,
            _settings(deployment),
            wanted={
                name: None if entry.since is None else str(entry.since)
                for name, entry in deployment.subscribers.items()
            },
            marks={name: one.delivered for name, one in opened.items() if hasattr(one, "delivered")},
            from_day=_day(first),
            run_id=RUN_ID,
            now=utc_now(),
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


def _settings(deployment: "Deployment") -> "DiscoverySettings":
    from export_pipeline.ledger.planning import PlanLimits
    from export_pipeline.source.layout import Layout
    from export_pipeline.steps.discover import DiscoverySettings
    from export_pipeline.storage.location import parse_location

    return DiscoverySettings(
        layout=Layout(deployment.source.layout),
        start_date=deployment.source.start_date,
        lookback=timedelta(hours=deployment.lookback_hours),
        on_overwrite=deployment.source.on_overwrite,
        start_from=str(deployment.start_from),
        limits=PlanLimits(
            max_events=deployment.batch.max_events,
            max_bytes=deployment.batch.max_bytes,
            manifest_max_files=deployment.manifest.max_files,
            manifest_max_bytes=deployment.manifest.max_bytes,
        ),
        prefix=parse_location(deployment.source.url).prefix,
    )


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--from: found {text!r}; allowed: a date, YYYY-MM-DD") from None
