"""Receive notifications of new files from a queue, plan the files, and delete the messages afterwards.

Works in rounds of a bounded number of messages: receive them, compare them with the ledger, plan their files in one
transaction that is on disk when it ends, and only then delete them from the queue. If the process dies in between, the
messages come again; their files are then either known or still to be planned.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.errors import FileError, FileUnreachable
from export_pipeline.ledger import known as known_files
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import DatedFile, Run
from export_pipeline.ledger.sources import ListingState
from export_pipeline.source.file import SourceFile, utf8
from export_pipeline.source.notifications import MessageContent, Notice, read_message
from export_pipeline.source.queue import Message, Queue
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import Discovery, DiscoverySettings, Found, discovery
from export_pipeline.steps.next_listing import NextListing
from export_pipeline.steps.progress import Progress

ROUND_MESSAGES = 1_000
LEAST_MESSAGES = 10_000
"""A run takes at most this many, or ten times its ``max_files``: those of known files are cheap and do not count."""

_SHOWN = 5
_LOOKS_AT_ONCE = 16
_SOME_MOMENT = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(slots=True)
class Taken:
    """What the messages of one run contained.

    Attributes:
        messages: how many were received.
        files: how many new files they announced.
        known: how many announced files that the ledger knows.
        gone: how many announced files that no longer exist.
        other: name of an event that does not announce a new file → how often it came.
        foreign, foreign_keys: number of files of other buckets or folders, and the first of them.
        wrong: message id → what is malformed, for the first malformed messages.
        wrong_messages: how many malformed messages there were.
        wrong_are_kept: the quarantine keeps them; otherwise the queue does, or its dead-letter queue.
        unseen: key → why the store did not answer for it, for the first such keys; their messages stay in the queue.
        unseen_files: for how many files the store did not answer.
        asked: how many objects the store was asked about.
        undeleted: how many messages could not be deleted, and come again.
        more: there may be more messages.
    """

    messages: int = 0
    files: int = 0
    known: int = 0
    gone: int = 0
    other: Counter[str] = field(default_factory=Counter)
    foreign: int = 0
    foreign_keys: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    wrong_messages: int = 0
    wrong_are_kept: bool = False
    unseen: dict[str, str] = field(default_factory=dict)
    unseen_files: int = 0
    asked: int = 0
    undeleted: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round of messages says about files of this source.

    Attributes:
        told: each message with its parsed content.
        keys: message id → the keys it announces.
        notices: key → etag → what a message says about it.
    """

    told: list[tuple[Message, MessageContent]]
    keys: dict[str, set[str]]
    notices: dict[str, dict[str, Notice]]


class MessageTaker:
    """Receives and processes the messages of one run.

    Args:
        search: plans the files and counts.
        bucket: the bucket's name in messages.
        quarantine: for malformed messages, if the queue has no dead-letter queue.
    """

    def __init__(self, search: Discovery, queue: Queue, *, bucket: str, quarantine: Quarantine) -> None:
        self.taken = Taken()
        self._search = search
        self._queue = queue
        self._bucket = bucket
        self._quarantine = quarantine
        self._unanswered = 0

    def take(self, *, max_files: int, most_messages: int) -> None:
        """Plan at most *max_files* files (more if one message announces several), from at most *most_messages*.

        Raises:
            QueueFailed: a request to the queue failed. What was planned stays planned.
        """
        taken = self.taken
        while (left := min(ROUND_MESSAGES, max_files - taken.files, most_messages - taken.messages)) > 0:
            messages, was_last = self._queue.receive(left)
            taken.messages += len(messages)
            if messages:
                self._plan(messages)
            if was_last:
                return
        taken.more = True

    def _plan(self, messages: Sequence[Message]) -> None:
        one = self._read(messages)
        files, unseen = self._identify(one.notices)
        new = list(self._search.owed(files))
        self._search.plan(new)
        self.taken.files += len(new)
        kept = {message.id for message, _ in one.told if not one.keys[message.id].isdisjoint(unseen)}
        kept |= self._set_aside([(message, told) for message, told in one.told if told.wrong])
        self.taken.undeleted += self._queue.delete([message for message in messages if message.id not in kept])

    def _read(self, messages: Sequence[Message]) -> _Round:
        one = _Round([(message, read_message(message.body)) for message in messages], {}, {})
        for message, told in one.told:
            self.taken.other.update(told.other)
            keys = one.keys.setdefault(message.id, set())
            for notice in told.created:
                key = self._key(notice)
                if key is not None:
                    keys.add(key)
                    one.notices.setdefault(key, {})[notice.etag] = notice
        return one

    def _key(self, notice: Notice) -> str | None:
        """The key relative to the source's URL; None if it is not a file of this source."""
        prefix = self._search.settings.prefix
        if notice.bucket != self._bucket or not notice.key.startswith(prefix):
            self.taken.foreign += 1
            if len(self.taken.foreign_keys) < _SHOWN:
                self.taken.foreign_keys.append(f"{notice.bucket}/{notice.key}")
            return None
        key = notice.key[len(prefix) :]
        if not key or key.endswith("/"):
            return None
        source = self._search.source
        if (pattern := source.ignored.pattern_of(key)) is not None:
            source.left_out.ignore(key, pattern)
            return None
        return key

    def _identify(self, notices: Mapping[str, Mapping[str, Notice]]) -> tuple[list[tuple[DatedFile, bool]], set[str]]:
        """The files that the ledger does not know, each with whether its key was taken; and the keys left unanswered.

        The store is asked if a message is incomplete, and if a key has several contents: only the present one can be
        read, and a message may come late.
        """
        settings = self._search.settings
        days = {key: settings.layout.date_of(key) for key in notices}
        with self._search.ledger.read() as tx:
            known = known_files.of_keys(tx, self._search.source_id, days)
        whole: list[SourceFile] = []
        to_ask: list[str] = []
        for key, by_etag in notices.items():
            day = days[key]
            is_out = day is None or day < settings.start_date
            if not is_out and all(etag and known.has(_content(key, etag), day) for etag in by_etag):
                self.taken.known += 1
                continue
            file = _file(key, next(iter(by_etag.values())))
            # A file that is only counted needs no request.
            if is_out:
                whole.append(file or SourceFile(key, "", 0, self._search.run.now))
            elif file is not None and len(by_etag) == 1 and not known.has_key(key, day):
                whole.append(file)
            else:
                to_ask.append(key)
        seen, unseen = self._ask(to_ask)
        for file in seen:
            if known.has(file, days[file.key]):
                self.taken.known += 1
            else:
                whole.append(file)
        whole.sort(key=lambda file: utf8(file.key))
        found = self._search.found
        new = list(self._search.dated(whole))
        for one in new:
            if known.was_ignored(one.file.key, one.file.etag):
                found.after_all.append(one)
            elif known.has_key(one.file.key, one.day):
                found.note_overwritten(one.file.key)
        return [(one, known.was_taken(one.file.key, one.day)) for one in new], unseen

    def _ask(self, keys: Sequence[str]) -> tuple[list[SourceFile], set[str]]:
        """The files under *keys* now, and the keys for which the store did not answer."""
        if not keys:
            return [], set()
        self.taken.asked += len(keys)
        with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="look") as pool:
            answers = list(pool.map(self._look, keys))
        unseen = set()
        for key, answer in zip(keys, answers, strict=True):
            if answer is None:
                self.taken.gone += 1
            elif isinstance(answer, FileError):
                unseen.add(key)
                if len(self.taken.unseen) < _SHOWN:
                    self.taken.unseen[key] = answer.reason
        self.taken.unseen_files += len(unseen)
        return [answer for answer in answers if isinstance(answer, SourceFile)], unseen

    def _look(self, key: str) -> SourceFile | FileError | None:
        if self._unanswered >= _LOOKS_AT_ONCE:
            return FileUnreachable(key, "not asked, because the store did not answer for others")
        try:
            found = self._search.source.find_file(key)
        except FileUnreachable as error:
            # A store that is down would keep the run busy for hours, each request with its retries.
            self._unanswered += 1
            return error
        except FileError as error:
            return error
        self._unanswered = 0
        return found

    def _set_aside(self, wrong: Sequence[tuple[Message, MessageContent]]) -> set[str]:
        """Quarantine malformed messages if there is no dead-letter queue; returns the ids of those it leaves."""
        if not wrong:
            return set()
        self.taken.wrong_messages += len(wrong)
        for message, told in wrong:
            if len(self.taken.wrong) < _SHOWN:
                self.taken.wrong[message.id] = "; ".join(told.wrong[:_SHOWN])
        if self._queue.has_dead_letters() is not False:
            return {message.id for message, _ in wrong}
        for message, told in wrong:
            self._quarantine.put_message(message_id=message.id, body=message.body, reason="; ".join(told.wrong))
        self.taken.wrong_are_kept = True
        return set()


def _content(key: str, etag: str) -> SourceFile:
    """As much of a file as a lookup needs."""
    return SourceFile(key, etag, 0, _SOME_MOMENT)


def _file(key: str, notice: Notice) -> SourceFile | None:
    """The file as the message describes it; None if the message is incomplete."""
    if not notice.etag or notice.size_bytes is None or notice.arrived_at is None:
        return None
    return SourceFile(key, notice.etag, notice.size_bytes, notice.arrived_at)


MOST_KEYS = 1_000_000
"""A run lists at most this many keys (1,000 requests, about ten seconds) and leaves the rest to the next one."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """How a source announces new files.

    Attributes:
        bucket: its name in messages.
        list_now: list even if no listing is due.
    """

    queue: Queue
    bucket: str
    listing_every: timedelta
    quarantine: Quarantine
    list_now: bool = False
    most_keys: int = MOST_KEYS


@dataclass(frozen=True, slots=True)
class Noticed:
    """What one run found.

    Attributes:
        found: the result of messages and listing together; ``since`` is where the listing began.
        taken: what the messages contained.
        why_listed: why the source was listed; empty if it was not.
        is_listed_to_the_end: no listing is in progress.
        next_listing_at: when the next one is due.
    """

    found: Found
    taken: Taken
    why_listed: str
    is_listed_to_the_end: bool
    next_listing_at: datetime


def discover_notified(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    notifications: Notifications,
    *,
    cursor: str,
    wanted: dict[str, str | None],
    max_files: int,
    run: Run,
    progress: Progress | None = None,
) -> Noticed:
    """List if a listing is due, then receive messages; plan at most *max_files* files of both together.

    Args:
        cursor: the text on the page of the sensor ``new_files``, which may make a listing longer. Messages do not move
            it.
        wanted: the configured subscribers and their ``since``.
        progress: counts the listed keys, as files.

    Raises:
        ListingFailed: the source could not be listed; nothing was planned.
        QueueFailed: a request to the queue failed; what was planned stays owed.
    """
    settings = replace(settings, follows_messages=True)
    with discovery(source, ledger, settings, cursor=cursor, wanted=wanted, run=run) as one:
        begin = one.begin()
        why = _why_list(one.state, begin, notifications, run.now)
        one.found.more = one.more_before
        if why:
            # Once the source was listed to its end, new files come by messages. They get at least half of a run, and do
            # not wait for years of backlog that one subscriber wants. The listing still comes first: otherwise a
            # failing queue would keep it from filling the gaps.
            most = max(1, max_files // 2) if one.state.listed_at else max_files
            _list(one, begin, notifications, max_files=most, progress=progress)
        taker = MessageTaker(one, notifications.queue, bucket=notifications.bucket, quarantine=notifications.quarantine)
        taker.take(max_files=max_files - one.found.files, most_messages=max(LEAST_MESSAGES, 10 * max_files))
        one.found.more = bool(one.state.after) or taker.taken.more
        one.plan([])
    due = (one.state.listed_at or run.now) + notifications.listing_every
    return Noticed(one.found, taker.taken, why, not one.state.after, due)


def _list(
    one: Discovery,
    begin: NextListing,
    notifications: Notifications,
    *,
    max_files: int,
    progress: Progress | None,
) -> None:
    """List and plan as much as a run may, and record how far the listing came."""
    before = one.state
    one.found.more = False
    after = begin.first
    if before.began_at and not notifications.list_now:
        # It continues where it stopped; otherwise it would never reach the end.
        after = min(before.after, begin.past_after or before.after, key=utf8)
    if after != begin.after:
        one.found.since = one.settings.layout.floor_after(after)
    walk = one.walk(after, most_keys=notifications.most_keys)
    new, last_key = one.list_new(walk, max_files=max_files, progress=progress)
    began_at = before.began_at or one.run.now
    if one.found.more:
        listing = one.listed(after=last_key, began_at=began_at, complete_at=before.complete_at)
    else:
        listing = one.listed(after="", began_at=None, complete_at=began_at, listed_at=began_at)
    one.plan(new, listing=listing)


def _why_list(state: ListingState, begin: NextListing, notifications: Notifications, now: datetime) -> str:
    """Why to list in this run; empty if no listing is due."""
    reasons = {
        "it was requested": notifications.list_now,
        "the last listing continues where it stopped": state.began_at is not None,
        "a subscriber starts earlier than before": bool(state.after),
        "the cursor or source.start_date was moved back": bool(begin.past_after),
        "it was never listed to its end": state.listed_at is None,
    }
    if state.listed_at is not None:
        # Also if that was by a clock far ahead: otherwise nothing would be listed until our clock has caught up.
        is_due = abs(now - state.listed_at) >= notifications.listing_every
        reasons[f"it was last listed at {state.listed_at:%Y-%m-%d %H:%M} UTC"] = is_due
    return next((reason for reason, holds in reasons.items() if holds), "")
