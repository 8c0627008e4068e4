"""Where the next listing of a source begins: one rule, for runs, the freshness check and ``why``.

The ledger knows up to which key everything was listed (:mod:`export_pipeline.ledger.sources`). The cursor of the
sensor ``new_files`` shows that key. Anyone can edit it, and another deployment on the same Dagster instance may have
left its cursor there. So it is followed only if it makes a listing longer: moved back, it makes the source be listed
again from there; moved forward, lost, malformed or written by another deployment, it changes nothing, and the run
logs that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

from export_pipeline.ledger.records import Subscription
from export_pipeline.ledger.sources import ListingState
from export_pipeline.source.file import utf8
from export_pipeline.source.layout import Layout

_MARKED = re.compile(r"(?P<key>.*?)\s*\(ledger (?P<mark>[0-9a-f]{8})\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ListingRules:
    """The settings that decide which files of a listing are taken.

    Attributes:
        lookback: how far before the frontier a listing begins, so that late files are found.
        on_overwrite: read, changed or ignore: whether new content under a known key is taken.
        prefix: the source's path in its bucket. Cursors are relative to it, but a user may paste a full key.
        follows_messages: notifications announce new files. A late file may arrive, without a message, right after the
            last listing went past its key, so the lookback counts from when that listing began.
    """

    layout: Layout
    start_date: date
    lookback: timedelta
    on_overwrite: str = "read"
    prefix: str = ""
    follows_messages: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """The cursor of ``new_files``, parsed.

    Attributes:
        key: empty: there is no cursor.
        mark: of the ledger whose run wrote it (``ledger.database.source_mark``); empty: a user wrote it.
    """

    key: str = ""
    mark: str = ""

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Parse the text that the sensor's page shows."""
        marked = _MARKED.fullmatch(text.strip())
        return cls(marked["key"], marked["mark"]) if marked else cls(text.strip())

    def __str__(self) -> str:
        return f"{self.key} (ledger {self.mark})" if self.key and self.mark else self.key


@dataclass(frozen=True, slots=True)
class NextListing:
    """Where the next listing begins.

    Attributes:
        after: list keys after this string; empty: from the very first key on.
        past_after: keys after this string, up to ``after``, are listed too, with the rest of ``max_files`` that new
            files leave; empty: none are.
        since: the beginning of the keys at ``after``, for messages; empty: the very first key.
        ignored: why the cursor was not followed, to complete "the cursor …"; empty: it was, or there is no cursor.
    """

    after: str
    past_after: str = ""
    since: str = ""
    ignored: str = ""

    @property
    def first(self) -> str:
        """The lowest string after which anything is listed."""
        return min(self.past_after or self.after, self.after, key=utf8)

    def covers(self, key: str) -> bool:
        """Whether this listing, or one that continues it, reaches *key*."""
        return utf8(key) > utf8(self.first)


def next_listing(
    rules: ListingRules,
    state: ListingState,
    subscriptions: Sequence[Subscription],
    *,
    cursor: str,
    mark: str,
    now: datetime,
) -> NextListing:
    """The lower of frontier and cursor, less the lookback, but not earlier than what a subscriber wants.

    Args:
        state: how far the source is listed; the default if the ledger does not know the source.
        subscriptions: those whose starts count; empty: none are known yet, and any start is possible.
        cursor: the text on the sensor's page.
        mark: of the ledger and the source.
        now: aware.
    """
    layout = rules.layout
    first, is_bounded = _first_wanted(rules, subscriptions)
    frontier = layout.moment_of(state.frontier) if state.frontier else None
    if frontier is None:
        # New to the ledger, or listed by another layout. Without a bound the listing begins at the very first key, so
        # that the run can log how many keys are before start_date or have no date.
        ignored = _why_ignored(Cursor.parse(cursor), rules, mark, frontier=None, frontier_key="")
        if not is_bounded:
            return NextListing("", ignored=ignored)
        return NextListing(layout.start_after(first), since=layout.key_floor(first), ignored=ignored)
    upto = min(frontier, now)
    if rules.follows_messages and state.listed_at is not None:
        upto = min(upto, state.listed_at)
    begins = max(first, upto - rules.lookback)
    after = layout.start_after(begins)
    pasts = [state.after] if state.after else []
    if state.start_date is not None and rules.start_date < state.start_date:
        pasts.append(layout.start_after(first))
    parsed = Cursor.parse(cursor)
    ignored = _why_ignored(parsed, rules, mark, frontier=frontier, frontier_key=state.frontier)
    moved_to = _moment(parsed, rules)
    if not ignored and moved_to is not None and moved_to < upto:
        pasts.append(layout.start_after(max(first, _earlier(moved_to, rules.lookback))))
    past = min(pasts, key=utf8, default="")
    if not past or utf8(past) >= utf8(after):
        past = ""
    return NextListing(after, past_after=past, since=layout.key_floor(begins), ignored=ignored)


def midnight(day: date) -> datetime:
    """When a day begins, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _first_wanted(rules: ListingRules, subscriptions: Sequence[Subscription]) -> tuple[datetime, bool]:
    """The first moment whose files are wanted, and whether a subscriber determines it rather than ``start_date``."""
    starts = [one.first_day for one in subscriptions]
    days = [day for day in starts if day is not None]
    start_date = midnight(rules.start_date)
    if not days or len(days) < len(starts):
        return start_date, False
    return max(start_date, _earlier(midnight(min(days)), rules.lookback)), True


def _moment(cursor: Cursor, rules: ListingRules) -> datetime | None:
    key = cursor.key
    if rules.prefix and rules.layout.moment_of(key) is None:
        key = key.removeprefix(f"{rules.prefix.strip('/')}/")
    return rules.layout.moment_of(key) if key else None


def _why_ignored(
    cursor: Cursor, rules: ListingRules, mark: str, *, frontier: datetime | None, frontier_key: str
) -> str:
    if not cursor.key:
        return ""
    if cursor.mark and cursor.mark != mark:
        return "was written by another deployment"
    moment = _moment(cursor, rules)
    if moment is None:
        return f"does not match the layout {rules.layout.pattern!r}"
    if frontier is None:
        return "was set before this ledger recorded how far the source is listed"
    # Keys of the same moment sort by what follows the date; the lookback covers them.
    if moment > frontier:
        return f"is ahead of {frontier_key}, up to which the source is listed"
    return ""


def _earlier(moment: datetime, by: timedelta) -> datetime:
    """*moment* minus *by*, limited to the calendar's range."""
    try:
        return moment - by
    except OverflowError:
        return datetime.min.replace(tzinfo=timezone.utc)
