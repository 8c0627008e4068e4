"""Take messages that tell of new files from a queue, plan the files, and remove the messages afterwards.

Done in rounds of a bounded number of messages: taken, compared with the ledger, planned in one transaction that is on
the disk when it ends, and only then removed from the queue. A process that dies in between leaves messages that come
again; their files are then either known, or still to be planned.
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
"""What one run takes at most, or ten times its ``max_files``: those of known files cost little and fill no run."""

_SHOWN = 5
_LOOKS_AT_ONCE = 16
_SOME_MOMENT = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(slots=True)
class Taken:
    """What the messages of one run came to.

    Attributes:
        messages: how many were taken.
        files: how many new files they told of.
        known: how many told of files that the ledger has.
        gone: how many told of files that are there no longer.
        other: name of an event that tells of no new file → how often.
        foreign, foreign_keys: files of other buckets or folders, and the first of them.
        wrong: message id → what could not be understood, of the first of them.
        wrong_messages: how many such messages there were.
        wrong_are_kept: by the quarantine; else the queue keeps them, or its dead-letter queue.
        unseen: key → why the store would not tell of it, of the first of them; the messages stay in the queue.
        unseen_files: how many such files there were.
        asked: how many objects the store was asked about.
        undeleted: how many messages could not be removed, and come again.
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
    """What one round of messages says of files of this source.

    Attributes:
        told: each message, taken apart.
        keys: whose key, by message id.
        notices: key → what is said of it, each content once.
    """

    told: list[tuple[Message, MessageContent]]
    keys: dict[str, set[str]]
    notices: dict[str, dict[str, Notice]]


class MessageTaker:
    """Takes the messages of one run.

    Args:
        search: what is planned and counted goes there.
        bucket: as messages name it.
        quarantine: for what cannot be understood, where the queue has no dead-letter queue.
    """

    def __init__(self, search: Discovery, queue: Queue, *, bucket: str, quarantine: Quarantine) -> None:
        self.taken = Taken()
        self._search = search
        self._queue = queue
        self._bucket = bucket
        self._quarantine = quarantine
        self._unanswered = 0

    def take(self, *, max_files: int, most_messages: int) -> None:
        """Plan at most *max_files* files (more, where one message tells of several), out of *most_messages*.

        Raises:
            QueueFailed: the queue did not answer well. What was planned stays planned.
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
        """The key below the source's URL; None for what is no file of this source."""
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
        """The files that the ledger does not know, each with whether it knows their key; and keys that nobody told of.

        The store is asked where a message does not tell everything, and where there is a choice: of several contents
        of a key only the one that is there can be read, and a message may come late.
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
            # One that is only counted need not be asked for.
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
        """What is under *keys* now, and those that the store would not tell of."""
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
            return FileUnreachable(key, "not asked, since the store did not answer for others")
        try:
            found = self._search.source.find_file(key)
        except FileUnreachable as error:
            # A store that is down would keep the run for hours, each look with its retries.
            self._unanswered += 1
            return error
        except FileError as error:
            return error
        self._unanswered = 0
        return found

    def _set_aside(self, wrong: Sequence[tuple[Message, MessageContent]]) -> set[str]:
        """See that messages nobody understands are out of the way; the ids of those that the queue itself sees to."""
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
    """Enough of a file to be looked up."""
    return SourceFile(key, etag, 0, _SOME_MOMENT)


def _file(key: str, notice: Notice) -> SourceFile | None:
    """The file as the message has it; None where it does not tell everything."""
    if not notice.etag or notice.size_bytes is None or notice.arrived_at is None:
        return None
    return SourceFile(key, notice.etag, notice.size_bytes, notice.arrived_at)


MOST_KEYS = 1_000_000
"""Keys that one run lists at most: 1,000 requests, some ten seconds, and what is left to the next one."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """How a source tells of new files.

    Attributes:
        bucket: as its messages name it.
        list_now: list whether it is time or not.
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
        found: by messages and listing together; ``since`` is where the listing began.
        taken: what the messages came to.
        why_listed: why the source was listed; empty: it was not.
        is_listed_to_the_end: no listing is under way.
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
    """List if it is time, then take messages; plan at most *max_files* of both.

    Args:
        cursor: the text on the page of the sensor ``new_files``, which may make a listing longer. Messages do not move
            it.
        wanted: the configured subscribers and their ``since``.
        progress: told how many keys were listed, as files.

    Raises:
        ListingFailed: the source could not be listed; nothing was planned.
        QueueFailed: the queue did not answer well; what was planned stays owed.
    """
    settings = replace(settings, follows_messages=True)
    with discovery(source, ledger, settings, cursor=cursor, wanted=wanted, run=run) as one:
        begin = one.begin()
        why = _why_list(one.state, begin, notifications, run.now)
        one.found.more = one.more_before
        if why:
            # Where it was listed to its end before, new files come by messages: they get half of a run at least, and do
            # not wait for years of a past that one subscriber wants. What the queue does comes second all the same, or
            # one that fails would keep the listing from filling the gaps.
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
    """List and plan what a run may, and write down how far that came."""
    before = one.state
    one.found.more = False
    after = begin.first
    if before.began_at and not notifications.list_now:
        # It goes on where it stopped, or it would never come to its end.
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
    """Why to list in this run; empty: it is not time."""
    reasons = {
        "it was asked for": notifications.list_now,
        "the last listing goes on where it stopped": state.began_at is not None,
        "a subscriber begins earlier than before": bool(state.after),
        "it was to begin earlier, by the cursor or by source.start_date": bool(begin.past_after),
        "it never was listed to its end": state.listed_at is None,
    }
    if state.listed_at is not None:
        # Also where that was by a clock far ahead: there would be no listing until this one has caught up.
        is_due = abs(now - state.listed_at) >= notifications.listing_every
        reasons[f"it was last listed at {state.listed_at:%Y-%m-%d %H:%M} UTC"] = is_due
    return next((reason for reason, holds in reasons.items() if holds), "")
