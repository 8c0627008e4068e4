"""Why a file was or was not exported: the rules of listing and the states of delivery, applied to a single file."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger.subscriptions import BEGINNING, NOW
from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.source.etag import are_same
from export_pipeline.source.layout import Layout
from export_pipeline.storage.location import Location, parse_location

if TYPE_CHECKING:
    from export_pipeline.ledger.history import FileLife
    from export_pipeline.ledger.records import Subscription
    from export_pipeline.source.file import SourceFile
    from export_pipeline.source.store import Source
    from export_pipeline.steps.next_listing import NextListing
    from export_pipeline.storage.location import Location

_LISTED_NEARBY = 1_000
_START_ONE = "start a run now: export-pipeline run"
_LIST_NOW = "start a run now: export-pipeline run; to have it list, launch export_job in the UI with listing: now"
# State of a delivery, by its name → sentence for the subscribers in that state, and advice.
OF_STATES = {
    "delivered": ("it was delivered to {}", ""),
    "owed": ("it is still owed to {}", _START_ONE),
    "waived": ("it is older than the start of {}", ""),
    "given_up": ("it was given up for {}", ""),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for the state of a file.

    Attributes:
        code: for programs; documented in docs/command_line.md.
        text: one sentence.
        advice: what to do; empty if nothing is needed.
    """

    code: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules and state that decide what a listing takes.

    Attributes:
        start_from: where a new ledger starts.
        subscriptions: the active ones; empty before the first run.
        subscribers: how many are configured.
        begins: cursor → where the next listing starts.
        cursor: reads the cursor of ``new_files``; called only where it matters, since it imports Dagster.
        sensor: the name of that sensor, prefix included.
        ignores_overwrites: new content under a known key is ignored.
        more_to_list: the last listing stopped at ``max_files``.
        is_notified: new files are announced by messages, and the source is listed only from time to time.
    """

    layout: Layout
    start_date: date
    start_from: date | str
    subscriptions: "Sequence[Subscription]"
    subscribers: int
    begins: Callable[[str], "NextListing"]
    cursor: Callable[[], str]
    sensor: Callable[[], str]
    ignores_overwrites: bool
    more_to_list: bool
    is_notified: bool
    enabled: bool
    now: datetime


def what_became(life: "FileLife", there: "SourceFile | None", rules: Rules, *, is_asked: bool) -> list[Reason]:
    """The reasons for the state of a file that the ledger knows.

    Args:
        there: the file as the source lists it now.
        is_asked: whether the source could be listed.
    """
    answers = [_state(life)] if life.manifest is None or not life.manifest.state.is_read else list(_deliveries(life))
    is_of_source = life.manifest is None or life.manifest.is_of_source
    if is_asked and there is None and is_of_source:
        answers.append(Reason("gone", "it is no longer in the source; what was delivered stays delivered"))
    elif there is not None and not are_same(there.etag, life.file.etag):
        answers.append(_replaced(life, there, rules))
    return answers


def _replaced(life: "FileLife", there: "SourceFile", rules: Rules) -> Reason:
    text = f"it has other content now (etag {there.etag})"
    can_be_read = life.manifest is None or not life.manifest.state.is_closed
    if rules.ignores_overwrites and can_be_read:
        return Reason("replaced", f"{text}, which is ignored: on_overwrite is ignore")
    late = _before_next_listing(there, life.day, rules)
    if late is not None:
        return Reason("replaced", f"{text}; {late.text}", late.advice)
    return Reason("replaced", f"{text}; the next listing finds it as a new file")


def _state(life: "FileLife") -> Reason:
    manifest = life.manifest
    if manifest is None:
        return Reason("ignored", f"it was seen and ignored: {life.note}")
    if manifest.state.is_closed:
        return Reason(
            "given_up",
            f"it could not be read, and was quarantined as a whole: {manifest.last_error}",
            "fix it, then: export-pipeline quarantine retry",
        )
    if manifest.read_attempts:
        times = counted(manifest.read_attempts, "time")
        return Reason("unreadable", f"it could not be read {times}, later runs retry it: {manifest.last_error}")
    if manifest.last_error:
        text = "the latest attempt to read its manifest failed, not yet because of a certain file; later runs retry"
        return Reason("unreadable", f"{text}: {manifest.last_error}")
    owed = [one.subscriber for one in life.deliveries if one.state.is_owed]
    return Reason("planned", f"a run will read it and deliver it to {', '.join(owed) or 'no subscriber'}", _START_ONE)


def _deliveries(life: "FileLife") -> Iterator[Reason]:
    if life.manifest is not None and not life.manifest.holds_events:
        aside = "; its content is in the quarantine" if life.manifest.events_quarantined else ""
        advice = f"export-pipeline quarantine list --manifest {life.manifest.id}" if aside else ""
        yield Reason(
            "no_events", f"it was read and contains no valid events: there was nothing to deliver{aside}", advice
        )
        return
    by_state = life.subscribers_by_state()
    for state, (text, advice) in OF_STATES.items():
        if names := by_state.get(state):
            yield Reason(state, text.format(", ".join(names)), advice)
    if not life.deliveries:
        yield Reason("owed_to_nobody", "it was read, and no subscriber is owed it")


def why_not_taken(file: "SourceFile", rules: Rules) -> Reason:
    """Why the ledger does not know a file that is in the source."""
    day = rules.layout.date_of(file.key)
    if day is None:
        example = rules.layout.key_floor(rules.now)
        return Reason(
            "no_date",
            f"its key does not match the layout {rules.layout.pattern!r}, as {example!r} would",
            "if files like this one belong to the export, set source.layout to their layout",
        )
    for rule in (_before_start_date, _before_subscribers, _before_start_from, _before_next_listing):
        answer = rule(file, day, rules)
        if answer is not None:
            return answer
    stopped = "" if rules.enabled else "; the deployment says enabled: false, so only a run started by hand will"
    if rules.is_notified:
        text = "no run has received its message yet, or none was sent; without a message the next listing finds it"
        return Reason("not_listed_yet", f"{text}{stopped}", _LIST_NOW)
    more = "the last listing stopped at max_files before it, " if rules.more_to_list else ""
    return Reason("not_listed_yet", f"{more}the next run will find it{stopped}", _START_ONE)


def _before_start_date(file: "SourceFile", day: date, rules: Rules) -> Reason | None:
    if day >= rules.start_date:
        return None
    return Reason("before_start_date", f"its day, {day}, is before source.start_date, {rules.start_date}")


def _before_subscribers(file: "SourceFile", day: date, rules: Rules) -> Reason | None:
    if not rules.subscribers:
        return Reason("no_subscriber", "no subscriber is configured, so nothing is delivered")
    if not rules.subscriptions or any(one.owes(file, day) for one in rules.subscriptions):
        return None
    starts = ", ".join(f"{one.name} {_start(one)}" for one in rules.subscriptions)
    return Reason("before_subscribers", f"it is older than the start of every subscriber: {starts}", _hand_over(day))


def _before_start_from(file: "SourceFile", day: date, rules: Rules) -> Reason | None:
    start = rules.start_from
    if rules.subscriptions or start == BEGINNING or (start != NOW and str(start) <= day.isoformat()):
        return None
    return Reason(
        "before_start_from",
        f"there was no run yet, and the first one starts at start_from: {start}, unless the since of a subscriber says "
        "otherwise",
        _hand_over(day),
    )


def _before_next_listing(file: "SourceFile", day: date, rules: Rules) -> Reason | None:
    # A cursor can only make the listing longer.
    if rules.begins("").covers(file.key):
        return None
    begins = rules.begins(rules.cursor())
    if begins.covers(file.key):
        return None
    return Reason(
        "before_next_listing",
        f"it arrived later than lookback_hours allows: the listing is past it, and the next listing starts at "
        f"{rules.layout.floor_after(begins.first)}",
        f"list its day again: dagster sensor cursor {rules.sensor()} --set "
        f"{rules.layout.day_prefix(day)} (or set it in the UI); each subscriber then gets what its start includes. "
        "The daily check completeness also finds it",
    )


def _hand_over(day: date) -> str:
    return (
        f"deliver its day to a chosen subscriber: export-pipeline replay {day} --subscriber NAME; or set an "
        "earlier start"
    )


def why_not_there(key: str, source: "Source", location: "Location") -> Reason:
    """Why the source does not list *key*."""
    if (pattern := source.ignored.pattern_of(key)) is not None:
        return Reason(
            "left_out",
            f"names like this are ignored: it matches {pattern!r} in source.ignore",
            "it will be found under its final name; if this is the final name, set source.ignore to a list without "
            "the pattern",
        )
    if location.scheme == "file" and os.path.exists(os.path.join(location.prefix, key)):
        return Reason(
            "left_out",
            "it exists, but is left out: links must not lead out of the source, folders must be readable, "
            "and names must be UTF-8",
        )
    folder = key[: key.rfind("/") + 1]
    nearby = [file.key for file in islice(source.list_files(prefix=folder), _LISTED_NEARBY)]
    close = get_close_matches(key, nearby, n=3, cutoff=0.6)
    hint = f"similar names: {', '.join(map(printable, close))}" if close else ""
    beside = "" if nearby or not folder else f", and nothing else below {printable(folder)}"
    return Reason("not_in_source", f"there is no such file in {source.url}{beside}", hint)


def _start(one: "Subscription") -> str:
    if one.start_day is not None:
        return f"from {one.start_day}"
    return f"files that arrive from {one.start_at:%Y-%m-%d %H:%M:%S} UTC" if one.start_at else "from the beginning"


def keys_meant(text: str, source: Location) -> list[str]:
    """The keys below *source* that *text* can mean, the likeliest first; never empty.

    Raises:
        ConfigurationError: it is a URL or an ARN of another location, or does not name a file.
    """
    if text.startswith("arn:") or "://" in text:
        return [_below(text, source)]
    found = []
    if source.scheme == "file":
        path = os.path.abspath(text)
        inside = os.path.join(source.prefix, "")
        # A path counts if it exists, else the text is a key.
        if path.startswith(inside) and (os.path.isabs(text) or os.path.exists(path)):
            found.append(path[len(inside) :])
    key = text.lstrip("/")
    if source.prefix and source.scheme != "file" and key.startswith(source.prefix):
        found.append(key[len(source.prefix) :])
    found = [one for one in dict.fromkeys([*found, key]) if one]
    if not found:
        raise ConfigurationError(f"{text!r} does not name a file; allowed: a key, or a URL below {source.url}")
    return found


def _below(text: str, source: Location) -> str:
    location = parse_location(text)
    if location.scheme == "file":
        folder, path = os.path.join(source.prefix, ""), location.prefix
    else:
        folder, path = source.prefix, location.prefix.removesuffix("/")
    same_place = (location.scheme, location.bucket) == (source.scheme, source.bucket)
    if not same_place or not path.startswith(folder) or path == folder:
        raise ConfigurationError(f"found {text}; allowed: a URL below this deployment's source, {source.url}")
    return path[len(folder) :]
