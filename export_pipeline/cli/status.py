"""``export-pipeline status``: how far every subscriber is, and whether all events are accounted for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from export_pipeline.cli.session import FAILED, JsonOption, Session, as_plain, looking_at_ledger
from export_pipeline.quantities import counted, lasting

if TYPE_CHECKING:
    from rich.text import Text

    from export_pipeline.cli.outline import Outline
    from export_pipeline.ledger.inspection import Account, Standing

_SHOWN_IMBALANCES = 20


@dataclass(frozen=True, slots=True)
class _Report:
    """All that there is to tell, at one moment."""

    outline: "Outline"
    source: str
    ledger: str
    standings: "Sequence[Standing]"
    account: "Account"
    imbalances: Sequence[str]
    now: datetime

    @property
    def not_started(self) -> list[str]:
        """Configured subscribers that no run has seen yet."""
        known = {one.subscriber for one in self.standings if one.is_active}
        return [name for name in self.outline.subscribers if name not in known]


def status(session: Session, json: JsonOption = False) -> int:
    """Show how far each subscriber is, and what it is owed.

    Also whether every event is accounted for: read = delivered + quarantined. Ends with 1 where the ledger's
    equations do not hold, else with 0, however much is owed.
    """
    report = _look(session.outline())
    if json:
        session.show_json(_as_json(report))
    else:
        _show(session, report)
    return FAILED if report.imbalances else 0


def _look(outline: "Outline") -> _Report:
    from export_pipeline.ledger import deliveries, inspection
    from export_pipeline.ledger.database import utc_now
    from export_pipeline.storage.location import parse_location

    url = parse_location(outline.source.url).url
    with looking_at_ledger(outline.ledger_url, url) as view:
        return _Report(
            outline=outline,
            source=url,
            ledger=view.description,
            standings=inspection.standings(*view.known) if view.known else (),
            account=inspection.account(*view.known) if view.known else inspection.NOTHING,
            imbalances=deliveries.imbalances(*view.known) if view.known else (),
            now=utc_now(),
        )


def _show(session: Session, report: _Report) -> None:
    from export_pipeline.cli import layout

    outline = report.outline
    file = f"{outline.name} ({outline.path}){'' if outline.enabled else ', enabled: false'}"
    places = (("Deployment", file), ("Source", report.source), ("Ledger", report.ledger))
    session.show(layout.lines((label, session.clean(text)) for label, text in places), "")
    headings = ("subscriber", "owed files#", "lag#", "last success", "delivered up to")
    rows = [
        *(_row(one, report.now) for one in report.standings),
        *((name, "-", "-", "never", "not known before its first run") for name in report.not_started),
    ]
    if rows:
        session.show(layout.table(headings, rows, long=headings[-1:], width=session.width))
    else:
        session.show("no subscriber is configured; add one under `subscribers:` in the deployment file")
    for one in report.standings:
        if one.last_error:
            session.show("", _failure(session, one, report.now))
    session.show("", layout.lines(_totals(report.account, report.imbalances)))


def _row(one: "Standing", now: datetime) -> "tuple[str | Text, ...]":
    from rich.text import Text

    from export_pipeline.cli import layout

    lag = (now - one.oldest_arrival).total_seconds() if one.oldest_arrival else 0
    return (
        one.subscriber if one.is_active else f"{one.subscriber} (removed)",
        f"{one.owed_files:,}",
        lasting(lag) if one.owed_files else "-",
        Text(layout.ago(one.last_success_at, now), style="red" if one.last_error else ""),
        one.delivered_key or "nothing yet",
    )


def _failure(session: Session, one: "Standing", now: datetime) -> "Text":
    from rich.text import Text

    from export_pipeline.cli import layout

    run = f" in run {one.last_error_run_id[:8]}" if one.last_error_run_id else ""
    head = f"{one.subscriber} failed {layout.ago(one.last_error_at, now)}{run}: "
    return Text.assemble((head, "bold red"), session.clean(one.last_error or ""))


def _totals(account: "Account", imbalances: Sequence[str]) -> "Iterable[tuple[str, str | Text]]":
    from rich.text import Text

    waiting = [
        f"{number:,} {what}"
        for number, what in (
            (account.unread_files - account.unreadable_files, "not read yet"),
            (account.unreadable_files, "unreadable, tried again in later runs"),
            (account.ignored_files, "ignored (on_overwrite)"),
        )
        if number
    ]
    more = "; more wait to be listed" if account.more_to_list else ""
    yield "Files", f"{counted(account.files, 'file')} seen" + "".join(f", {one}" for one in waiting) + more
    yield (
        "Events",
        f"{account.events_framed:,} read = {account.events_batched:,} in batches + "
        f"{account.events_quarantined:,} quarantined",
    )
    yield (
        "Quarantined",
        f"{counted(account.events_quarantined, 'bad stretch', 'bad stretches')}, "
        f"{counted(account.refused_events, 'refused event')}, {counted(account.given_up_files, 'unreadable file')}",
    )
    if not imbalances:
        yield "Account", Text("every event is accounted for", style="green")
        return
    rest = len(imbalances) - _SHOWN_IMBALANCES
    sentences = [*imbalances[:_SHOWN_IMBALANCES], *([f"and {rest:,} more"] if rest > 0 else [])]
    yield "Account", Text("\n".join(["does not hold:", *sentences]), style="bold red")


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
        "subscribers": subscribers,
        "not_started": report.not_started,
        "account": as_plain(report.account),
        "equations_hold": not report.imbalances,
        "imbalances": list(report.imbalances),
    }
