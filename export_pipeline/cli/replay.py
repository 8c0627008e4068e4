"""``export-pipeline replay``: deliver days again, or only what is missing, to all or some subscribers."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from export_pipeline.cli.session import FAILED, JsonOption, Session, as_plain
from export_pipeline.errors import ConfigurationError
from export_pipeline.quantities import counted

if TYPE_CHECKING:
    from export_pipeline.cli.runs import RunOutcome

FirstArgument = Annotated[str, typer.Argument(metavar="FIRST", help="First day, YYYY-MM-DD.")]
LastArgument = Annotated[str | None, typer.Argument(metavar="LAST", help="Last day, inclusive; FIRST by default.")]
SubscriberOption = Annotated[
    list[str] | None,
    typer.Option(
        "--subscriber",
        "-s",
        metavar="NAME",
        help="A subscriber to deliver to; can be given several times. All by default.",
    ),
]
OnlyOption = Annotated[
    Literal["missing", "all"],
    typer.Option(help="missing: only what they have not received; all: everything again, under the same batch ids."),
]
KeepGoingOption = Annotated[
    bool, typer.Option("--keep-going", "-k", help="Continue with the next day after one fails.")
]


def replay(
    session: Session,
    first: FirstArgument,
    *,
    last: LastArgument = None,
    subscriber: SubscriberOption = None,
    only: OnlyOption = "missing",
    keep_going: KeepGoingOption = False,
    json: JsonOption = False,
) -> int:
    """Deliver whole days again, or only what is missing.

    Runs backfill_job in this process, once per day. Also finds files that no run has listed yet. Exits with 1 if a day
    failed or is still partly owed, such as to a subscriber that another run is delivering to: what was not delivered
    stays owed, and the next run of the export delivers it.
    """
    from export_pipeline.cli.runs import runner
    from export_pipeline.ledger.database import utc_now

    deployment = session.deployment(without_variables=True)
    strangers = [name for name in subscriber or () if name not in deployment.subscribers]
    if strangers:
        known = ", ".join(deployment.subscribers) or "none"
        raise ConfigurationError(f"--subscriber: found {', '.join(strangers)}; allowed: {known}")
    days = days_between(first, last or first, earliest=deployment.source.start_date, latest=utc_now().date())
    names = deployment.names
    names_of_subscribers = subscriber or list(deployment.subscribers)
    ops = {names.list_day_files: {"config": {"subscribers": names_of_subscribers, "only": only}}}
    outcomes: dict[date, RunOutcome] = {}
    still_owed: dict[date, dict[str, int]] = {}
    with runner(session, deployment) as one, one.counting(len(days)) as count:
        for day in days:
            one.say(f"replaying {day}")
            outcomes[day] = one.run(names.backfill_job, ops, title=day.isoformat(), partition=day.isoformat())
            still_owed[day] = one.still_owed(day, names_of_subscribers)
            count()
            if not outcomes[day].success and not keep_going:
                break
    if json:
        session.show_json(
            {day.isoformat(): {**as_plain(outcome), "still_owed": still_owed[day]} for day, outcome in outcomes.items()}
        )
    else:
        _sum_up(session, days, outcomes, still_owed)
    return 0 if all(outcome.success and not still_owed[day] for day, outcome in outcomes.items()) else FAILED


def days_between(first: str, last: str, *, earliest: date, latest: date) -> list[date]:
    """Every day from *first* to *last*, both inclusive.

    Raises:
        ConfigurationError: one of them is not a date, they are in the wrong order, or outside the range of the source.
    """
    bounds = []
    for text in (first, last):
        try:
            bounds.append(date.fromisoformat(text))
        except ValueError:
            raise ConfigurationError(f"found {text!r}; allowed: a date, YYYY-MM-DD") from None
    if not earliest <= bounds[0] <= bounds[1] <= latest:
        raise ConfigurationError(
            f"found {bounds[0]} to {bounds[1]}; allowed: days from {earliest} (source.start_date) to {latest} (today, "
            "UTC), the earlier one first"
        )
    return [bounds[0] + timedelta(days=number) for number in range((bounds[1] - bounds[0]).days + 1)]


def _sum_up(
    session: Session,
    days: Sequence[date],
    outcomes: "Mapping[date, RunOutcome]",
    still_owed: Mapping[date, Mapping[str, int]],
) -> None:
    from export_pipeline.cli import printing
    from export_pipeline.cli.runs import delivered
    from export_pipeline.ledger.inspection import RunStanding

    totals: dict[str, RunStanding] = {}
    for outcome in outcomes.values():
        for name, found in outcome.subscribers.items():
            totals[name] = totals.get(name, RunStanding()) + found
    failed = [day.isoformat() for day, outcome in outcomes.items() if not outcome.success]
    partly = [day for day, outcome in outcomes.items() if outcome.success and still_owed[day]]
    session.show(_verdict(len(outcomes), failed=len(failed), partly=len(partly), nothing=not totals))
    session.show(printing.lines(delivered(totals)))
    for day in partly:
        rest = ", ".join(f"{name} is still owed {counted(files, 'file')}" for name, files in still_owed[day].items())
        session.show(f"{day}: {rest}. The next run of the export delivers them.")
    if failed:
        left = [day.isoformat() for day in days if day not in outcomes]
        rest = f"; not started: {left[0]} to {left[-1]}" if left else ""
        session.show(f"failed: {', '.join(failed)}{rest}. The next run of the export delivers what they still owe.")


def _verdict(days: int, *, failed: int, partly: int, nothing: bool) -> str:
    if failed:
        return f"{counted(days, 'day')} FAILED"
    if partly:
        return f"{days - partly:,} of {counted(days, 'day')} replayed, {partly:,} partly"
    return f"{counted(days, 'day')} replayed" + ("; nothing was owed" if nothing else "")
