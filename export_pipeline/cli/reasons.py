"""What became of a file, or why it was not taken: the rules of listing, asked one by one for a single file."""

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
_LIST_NOW = "start a run now: export-pipeline run; to list in it, launch export_job in the UI with listing: now"
# State of a delivery, by its name → what it comes to with those subscribers, and what can be done.
OF_STATES = {
    "delivered": ("it was delivered to {}", ""),
    "owed": ("it is still owed to {}", _START_ONE),
    "waived": ("it lies before the start of {}", ""),
    "given_up": ("it was given up for {}", ""),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why things are as they are.

    Attributes:
        code: for programs: documented in docs/command_line.md.
        text: one sentence.
        advice: what can be done; empty where nothing need be.
    """

    code: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What listing goes by.

    Attributes:
        start_from: where a new ledger starts.
        subscriptions: the active ones; none before the first run.
        subscribers: how many the deployment file names.
        begins: where the next listing begins, by a cursor.
        cursor: tells the cursor of ``new_files``; asked only where it matters, since it takes Dagster.
        sensor: tells its name, which the deployment's prefix begins; it takes Dagster, too.
        ignores_overwrites: new content under a known key is not taken.
        more_to_list: the last listing stopped at ``max_files``.
        is_notified: messages tell of new files, and the source is only listed now and then.
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
    """What it comes to with a file that the ledger knows.

    Args:
        there: as the source lists it now.
        is_asked: whether the source could be asked.
    """
    answers = [_state(life)] if life.manifest is None or not life.manifest.state.is_read else list(_deliveries(life))
    is_of_source = life.manifest is None or life.manifest.is_of_source
    if is_asked and there is None and is_of_source:
        answers.append(Reason("gone", "it is in the source no longer; what was delivered stays delivered"))
    elif there is not None and not are_same(there.etag, life.file.etag):
        answers.append(_replaced(life, there, rules))
    return answers


def _replaced(life: "FileLife", there: "SourceFile", rules: Rules) -> Reason:
    text = f"it has other content now (etag {there.etag})"
    can_be_read = life.manifest is None or not life.manifest.state.is_closed
    if rules.ignores_overwrites and can_be_read:
        return Reason("replaced", f"{text}, which is not taken: on_overwrite is ignore")
    late = _before_next_listing(there, life.day, rules)
    if late is not None:
        return Reason("replaced", f"{text}; {late.text}", late.advice)
    return Reason("replaced", f"{text}; the next listing takes it for a new file")


def _state(life: "FileLife") -> Reason:
    manifest = life.manifest
    if manifest is None:
        return Reason("ignored", f"it was seen and not taken: {life.note}")
    if manifest.state.is_closed:
        return Reason(
            "given_up",
            f"it could not be read and lies in the quarantine as a whole: {manifest.last_error}",
            "mend it, then: export-pipeline quarantine retry",
        )
    if manifest.read_attempts:
        times = counted(manifest.read_attempts, "time")
        return Reason("unreadable", f"it could not be read {times}, later runs try again: {manifest.last_error}")
    if manifest.last_error:
        text = "the latest reading failed, for which no file is to blame so far; later runs try again"
        return Reason("unreadable", f"{text}: {manifest.last_error}")
    owed = [one.subscriber for one in life.deliveries if one.state.is_owed]
    return Reason("planned", f"a run will read it and deliver it to {', '.join(owed) or 'nobody'}", _START_ONE)


def _deliveries(life: "FileLife") -> Iterator[Reason]:
    if life.manifest is not None and not life.manifest.holds_events:
        aside = "; what it holds lies in the quarantine" if life.manifest.events_quarantined else ""
        advice = f"export-pipeline quarantine list --manifest {life.manifest.id}" if aside else ""
        yield Reason(
            "no_events", f"it was read and contains no valid event: there was nothing to deliver{aside}", advice
        )
        return
    by_state = life.subscribers_by_state()
    for state, (text, advice) in OF_STATES.items():
        if names := by_state.get(state):
            yield Reason(state, text.format(", ".join(names)), advice)
    if not life.deliveries:
        yield Reason("owed_to_nobody", "it was read, and is owed to nobody")


def why_not_taken(file: "SourceFile", rules: Rules) -> Reason:
    """Why the ledger does not know a file that lies in the source."""
    day = rules.layout.date_of(file.key)
    if day is None:
        example = rules.layout.key_floor(rules.now)
        return Reason(
            "no_date",
            f"its key does not begin with the layout {rules.layout.pattern!r}, as {example!r} would",
            "if files like this one belong to the export, give their layout in source.layout",
        )
    for rule in (_before_start_date, _before_subscribers, _before_start_from, _before_next_listing):
        answer = rule(file, day, rules)
        if answer is not None:
            return answer
    stopped = "" if rules.enabled else "; the deployment says enabled: false, so only a run by hand will"
    if rules.is_notified:
        text = "no run has taken its message yet, or none came; if none comes, the next listing finds it"
        return Reason("not_listed_yet", f"{text}{stopped}", _LIST_NOW)
    more = "the last listing stopped at max_files before it, " if rules.more_to_list else ""
    return Reason("not_listed_yet", f"{more}the next run will find it{stopped}", _START_ONE)


def _before_start_date(file: "SourceFile", day: date, rules: Rules) -> Reason | None:
    if day >= rules.start_date:
        return None
    return Reason("before_start_date", f"its day, {day}, is before source.start_date, {rules.start_date}")


def _before_subscribers(file: "SourceFile", day: date, rules: Rules) -> Reason | None:
    if not rules.subscribers:
        return Reason("no_subscriber", "no subscriber is configured, so nobody is owed anything")
    if not rules.subscriptions or any(one.owes(file, day) for one in rules.subscriptions):
        return None
    starts = ", ".join(f"{one.name} {_start(one)}" for one in rules.subscriptions)
    return Reason("before_subscribers", f"it lies before the start of every subscriber: {starts}", _hand_over(day))


def _before_start_from(file: "SourceFile", day: date, rules: Rules) -> Reason | None:
    start = rules.start_from
    if rules.subscriptions or start == BEGINNING or (start != NOW and str(start) <= day.isoformat()):
        return None
    return Reason(
        "before_start_from",
        f"no run was made yet, and the first one starts at start_from: {start}, unless the since of a subscriber says "
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
        f"it came later than lookback_hours allow: the source is listed further, and the next listing begins at "
        f"{rules.layout.floor_after(begins.first)}",
        f"list its day once more: dagster sensor cursor {rules.sensor()} --set "
        f"{rules.layout.day_prefix(day)} (or set it in the UI); each subscriber then gets what lies within its start. "
        "The daily check completeness finds it, too",
    )


def _hand_over(day: date) -> str:
    return (
        f"hand its day to a subscriber of your choice: export-pipeline replay {day} --subscriber NAME; or set an "
        "earlier start"
    )


def why_not_there(key: str, source: "Source", location: "Location") -> Reason:
    """Why the source does not list *key*."""
    if (pattern := source.ignored.pattern_of(key)) is not None:
        return Reason(
            "left_out",
            f"names like this are left alone: it matches {pattern!r} of source.ignore",
            "under its final name it is found; if this is that, give source.ignore a list without the pattern",
        )
    if location.scheme == "file" and os.path.exists(os.path.join(location.prefix, key)):
        return Reason(
            "left_out",
            "it is there, but is left out: links must not lead out of the source, folders must be open to the export, "
            "and names must be UTF-8",
        )
    folder = key[: key.rfind("/") + 1]
    nearby = [file.key for file in islice(source.list_files(prefix=folder), _LISTED_NEARBY)]
    close = get_close_matches(key, nearby, n=3, cutoff=0.6)
    hint = f"near it lie: {', '.join(map(printable, close))}" if close else ""
    beside = "" if nearby or not folder else f", nor anything else below {printable(folder)}"
    return Reason("not_in_source", f"there is no such file in {source.url}{beside}", hint)


def _start(one: "Subscription") -> str:
    if one.start_day is not None:
        return f"from {one.start_day} on"
    return f"what arrives from {one.start_at:%Y-%m-%d %H:%M:%S} UTC on" if one.start_at else "from the beginning"


def keys_meant(text: str, source: Location) -> list[str]:
    """The keys below *source* that *text* may mean, the likeliest first; never empty.

    Raises:
        ConfigurationError: it is a URL or an ARN of another place, or names no file.
    """
    if text.startswith("arn:") or "://" in text:
        return [_below(text, source)]
    found = []
    if source.scheme == "file":
        path = os.path.abspath(text)
        inside = os.path.join(source.prefix, "")
        # A path of the shell counts where it leads to something, else the text is a key.
        if path.startswith(inside) and (os.path.isabs(text) or os.path.exists(path)):
            found.append(path[len(inside) :])
    key = text.lstrip("/")
    if source.prefix and source.scheme != "file" and key.startswith(source.prefix):
        found.append(key[len(source.prefix) :])
    found = [one for one in dict.fromkeys([*found, key]) if one]
    if not found:
        raise ConfigurationError(f"{text!r} names no file; allowed: a key, or a URL below {source.url}")
    return found


def _below(text: str, source: Location) -> str:
    location = parse_location(text)
    if location.scheme == "file":
        folder, path = os.path.join(source.prefix, ""), location.prefix
    else:
        folder, path = source.prefix, location.prefix.removesuffix("/")
    same_place = (location.scheme, location.bucket) == (source.scheme, source.bucket)
    if not same_place or not path.startswith(folder) or path == folder:
        raise ConfigurationError(f"{text} does not lie below this deployment's source, {source.url}")
    return path[len(folder) :]
