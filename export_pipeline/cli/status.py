"""``export-pipeline status``: how far the source is listed, each subscriber's backlog, and what needs attention."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export_pipeline.cli.session import FAILED, JsonOption, Session, as_plain, looking_at_ledger
from export_pipeline.quantities import counted, lasting

if TYPE_CHECKING:
    from rich.text import Text

    from export_pipeline.cli.outline import Outline
    from export_pipeline.cli.verification import Verified
    from export_pipeline.ledger.inspection import Account, GivenUp, Standing
    from export_pipeline.ledger.sources import ListingState

VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="List the source from source.start_date, and compare every object with the ledger. Takes as long as "
        "listing the whole source.",
    ),
]
MOST_GIVEN_UP = 1_000
_SHOWN_IMBALANCES = 20
_SHOWN_GIVEN_UP = 10
_SHOWN_KEYS = 3


@dataclass(frozen=True, slots=True)
class _Report:
    """Everything that the command reports, at one moment."""

    outline: "Outline"
    source: str
    ledger: str
    listing: "ListingState | None"
    standings: "Sequence[Standing]"
    account: "Account"
    given_up: "Sequence[GivenUp]"
    records: dict[str, int]
    imbalances: Sequence[str]
    verified: "Verified | None"
    now: datetime

    @property
    def not_started(self) -> list[str]:
        """Configured subscribers that no run has seen yet."""
        known = {one.subscriber for one in self.standings if one.is_active}
        return [name for name in self.outline.subscribers if name not in known]

    @property
    def blocked(self) -> list[str]:
        """Subscribers that get nothing until someone acts."""
        return [one.subscriber for one in self.standings if one.is_active and one.is_blocked]

    @property
    def is_well(self) -> bool:
        """Nothing needs attention."""
        is_verified = self.verified is None or self.verified.is_well
        return is_verified and not (self.imbalances or self.given_up or self.blocked)


def status(session: Session, verify: VerifyOption = False, json: JsonOption = False) -> int:
    """Show how far the source is listed, and the backlog and lag of each subscriber.

    Exits with 1 if files were given up, a subscriber is blocked, the ledger's equations do not hold or, with --verify,
    an object of the source is missing or overdue; otherwise with 0, however much is owed.
    """
    report = _look(session, session.outline(), verify=verify)
    if json:
        session.show_json(_as_json(report))
    else:
        _show(session, report)
    return 0 if report.is_well else FAILED


def _look(session: Session, outline: "Outline", *, verify: bool) -> _Report:
    from export_pipeline.cli import verification
    from export_pipeline.ledger import balance, inspection, quarantined, sources
    from export_pipeline.ledger.database import utc_now
    from export_pipeline.storage.location import parse_location

    url = parse_location(outline.source.url).url
    now = utc_now()
    # First, so that what a run plans meanwhile is in the ledger by the time it is read.
    verified = verification.verify(session, outline, now=now) if verify else None
    with looking_at_ledger(outline.ledger_url, url) as view:
        return _Report(
            outline=outline,
            source=url,
            ledger=view.description,
            listing=sources.listing_state(*view.known) if view.known else None,
            standings=inspection.standings(*view.known) if view.known else (),
            account=inspection.account(*view.known) if view.known else inspection.NOTHING,
            given_up=inspection.given_up(*view.known, most=MOST_GIVEN_UP) if view.known else (),
            records=quarantined.counts(*view.known) if view.known else dict.fromkeys(quarantined.STATES, 0),
            imbalances=balance.imbalances(*view.known) if view.known else (),
            verified=verified,
            now=now,
        )


def _show(session: Session, report: _Report) -> None:
    from export_pipeline.cli import printing

    outline = report.outline
    file = f"{outline.name} ({outline.path}){'' if outline.enabled else ', enabled: false'}"
    places = (
        ("Deployment", file),
        ("Source", report.source),
        ("Ledger", report.ledger),
        ("Listed", _listed(report)),
    )
    session.show(printing.lines((label, session.clean(text)) for label, text in places), "")
    headings = ("subscriber", "owed files#", "lag#", "last success", "last file delivered")
    rows = [
        *(_row(one, report.now) for one in report.standings),
        *((name, "-", "-", "never", "not known before its first run") for name in report.not_started),
    ]
    if rows:
        session.show(printing.table(headings, rows, long=headings[-1:], width=session.width))
    else:
        session.show("no subscriber is configured; add one under `subscribers:` in the deployment file")
    for one in report.standings:
        if one.last_error:
            session.show("", _failure(session, one, report.now))
    session.show("", printing.lines(_totals(session, report)))


def _listed(report: _Report) -> str:
    """How far the source is listed, when, and what is still to be listed."""
    from export_pipeline.cli import printing

    listing = report.listing
    if listing is None or not (listing.frontier or listing.complete_at):
        return "nothing yet"
    text = f"up to {listing.frontier}" if listing.frontier else "no key matches the layout"
    if listing.complete_at:
        text += f"; the end of the source was last reached {printing.ago(listing.complete_at, report.now)}"
    if listing.after:
        text += f"; earlier files, from {report.outline.listing_rules().layout.floor_after(listing.after)}, are not "
        text += "all listed yet"
    if report.account.more_to_list:
        text += "; the next run lists more files"
    return text


def _row(one: "Standing", now: datetime) -> "tuple[str | Text, ...]":
    from rich.text import Text

    from export_pipeline.cli import printing

    lag = (now - one.oldest_arrival).total_seconds() if one.oldest_arrival else 0
    return (
        one.subscriber if one.is_active else f"{one.subscriber} (removed)",
        f"{one.owed_files:,}",
        lasting(lag) if one.owed_files else "-",
        Text(printing.ago(one.last_success_at, now), style="red" if one.last_error else ""),
        one.delivered_key or "nothing yet",
    )


def _failure(session: Session, one: "Standing", now: datetime) -> "Text":
    from rich.text import Text

    from export_pipeline.cli import printing

    run = f" in run {one.last_error_run_id[:8]}" if one.last_error_run_id else ""
    what = "is blocked until someone acts; it failed" if one.is_blocked else "failed"
    head = f"{one.subscriber} {what} {printing.ago(one.last_error_at, now)}{run}: "
    return Text.assemble((head, "bold red"), session.clean(one.last_error or ""))


def _totals(session: Session, report: _Report) -> "Iterable[tuple[str, str | Text]]":
    from rich.text import Text

    account = report.account
    waiting = [
        f"{number:,} {what}"
        for number, what in (
            (account.unread_files - account.unreadable_files, "not read yet"),
            (account.unreadable_files, "unreadable, retried in later runs"),
            (account.ignored_files, "ignored (on_overwrite)"),
        )
        if number
    ]
    yield "Files", f"{counted(account.files, 'file')} seen" + "".join(f", {one}" for one in waiting)
    yield (
        "Events",
        f"{account.events_framed:,} read = {account.events_batched:,} in batches + "
        f"{account.events_quarantined:,} quarantined",
    )
    yield (
        "Quarantined",
        f"{counted(account.events_quarantined, 'malformed record')}, "
        f"{counted(account.refused_events, 'refused event')}, {counted(account.given_up_files, 'unreadable file')}",
    )
    if any(report.records.values()):
        states = ", ".join(f"{number:,} {state}" for state, number in report.records.items())
        yield "Records", f"of {sum(report.records.values()):,} in the quarantine: {states}"
    if report.given_up:
        yield "Given up", Text("\n".join(_given_up(session, report.given_up)), style="bold red")
    yield "Account", _account(report)
    if report.verified is not None:
        style = "green" if report.verified.is_well else "bold red"
        yield "Verified", Text("\n".join(map(session.clean, report.verified.sentences())), style=style)


def _given_up(session: Session, given_up: "Sequence[GivenUp]") -> Iterable[str]:
    for one in given_up[:_SHOWN_GIVEN_UP]:
        more = one.files - min(len(one.keys), _SHOWN_KEYS)
        keys = ", ".join(map(session.clean, one.keys[:_SHOWN_KEYS])) + (f" and {more:,} more" if more else "")
        reason = f": {session.clean(one.reason)}" if one.reason else ""
        yield f"{keys}, for {', '.join(one.subscribers) or 'no subscriber'}{reason}"
    rest = len(given_up) - _SHOWN_GIVEN_UP
    if rest > 0:
        yield f"and {'at least ' if len(given_up) == MOST_GIVEN_UP else ''}{rest:,} more (--json shows them)"
    yield "once fixed: export-pipeline quarantine retry; if nobody needs them: export-pipeline quarantine dismiss"


def _account(report: _Report) -> "Text":
    from rich.text import Text

    imbalances = report.imbalances
    if imbalances:
        rest = len(imbalances) - _SHOWN_IMBALANCES
        sentences = [*imbalances[:_SHOWN_IMBALANCES], *([f"and {rest:,} more"] if rest > 0 else [])]
        return Text("\n".join(["does not hold:", *sentences]), style="bold red")
    if report.listing is None:
        return Text("there was no run yet")
    compared = "" if report.verified else "; not compared with the source (use --verify)"
    return Text(f"the events of every file that was read add up{compared}")


def _as_json(report: _Report) -> dict[str, Any]:
    subscribers = []
    for one in report.standings:
        lag = (report.now - one.oldest_arrival).total_seconds() if one.oldest_arrival else 0.0
        subscribers.append({**as_plain(one), "lag_seconds": round(lag, 3)})
    return {
        "deployment": report.outline.name,
        "file": str(report.outline.path),
        "enabled": report.outline.enabled,
        "source": report.source,
        "at": report.now.isoformat(),
        "listing": as_plain(report.listing),
        "subscribers": subscribers,
        "not_started": report.not_started,
        "account": as_plain(report.account),
        "given_up": as_plain(list(report.given_up)),
        "quarantine": report.records,
        "blocked": report.blocked,
        "equations_hold": not report.imbalances,
        "imbalances": list(report.imbalances),
        "verified": report.verified.as_plain() if report.verified else None,
        "is_well": report.is_well,
    }
