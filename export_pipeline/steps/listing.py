"""Listing against the ledger: which files are new, which keys are none of the layout's, and what one look came to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice

from export_pipeline.ledger import known
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.planning import DatedFile
from export_pipeline.ledger.subscriptions import Subscription
from export_pipeline.source.file import SourceFile
from export_pipeline.source.layout import Layout
from export_pipeline.source.store import Source
from export_pipeline.steps.progress import Progress

_COMPARED_AT_ONCE = 1_000
# Sorts after every key that can match a layout: what lies behind it (Firehose's error folder, say) need not be listed.
_LAST_MOMENT = datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc)
_SHOWN_KEYS = 5


@dataclass(slots=True)
class Found:
    """What one listing came to.

    Attributes:
        since: what keys began with where the listing started; empty: at the very first key.
        frontier: the key up to which everything is listed and planned; none of the future; empty while no file was
            ever found.
        cursor: what the sensor's page is to show of that: the key, with the mark of this ledger.
        files: how many new files were planned.
        manifests: into how many manifests.
        more: at least one more new file waits behind ``max_files``.
        undated, undated_keys: how many keys do not match the layout, and the first of them.
        too_old: how many files are older than ``start_date``.
        overwritten, overwritten_keys: how many known keys came with new content, and the first of them.
        notes: sentences about subscribers that came, went or moved their start.
        ignored_cursor, why_ignored: the cursor that the run found, and why it was not followed; the latter is empty
            where it was.
        after_all: files that were ignored as overwrites, and are taken now, since what was taken could never be read.
    """

    since: str = ""
    frontier: str = ""
    cursor: str = ""
    files: int = 0
    manifests: int = 0
    more: bool = False
    undated: int = 0
    undated_keys: list[str] = field(default_factory=list)
    too_old: int = 0
    overwritten: int = 0
    overwritten_keys: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    ignored_cursor: str = ""
    why_ignored: str = ""
    after_all: list[DatedFile] = field(default_factory=list)
    subscriptions: tuple[Subscription, ...] = ()

    def note_overwritten(self, key: str) -> None:
        """Count a known key with new content."""
        self.overwritten += 1
        if len(self.overwritten_keys) < _SHOWN_KEYS:
            self.overwritten_keys.append(key)


class Walk:
    """A listing of the source up to the last key that can match the layout, or to a number of keys.

    Args:
        after: a key, or any string; excluded itself.
        before: the same, for where it ends earlier; None: it does not.
        most_keys: stop after so many; None: never.

    Attributes:
        last_key: the last key that came.
        is_cut: it stopped because of *most_keys*.
    """

    def __init__(
        self, source: Source, *, after: str, layout: Layout, before: str | None = None, most_keys: int | None = None
    ) -> None:
        behind_all = layout.key_floor(_LAST_MOMENT) + "\U0010ffff"
        self._files = source.list_files(after=after, before=before or behind_all)
        self._most = most_keys
        self.last_key = ""
        self.is_cut = False

    def __iter__(self) -> Iterator[SourceFile]:
        for n, file in enumerate(self._files):
            if n == self._most:
                self.is_cut = True
                return
            self.last_key = file.key
            yield file


def dated(source: Source, layout: Layout, found: Found, *, after: str, before: str) -> Iterator[DatedFile]:
    """The listing from *after* to *before*, each file with its day; keys without one are counted and left out."""
    return with_days(source.list_files(after=after, before=before), layout, found)


def with_days(files: Iterable[SourceFile], layout: Layout, found: Found) -> Iterator[DatedFile]:
    """*files*, each with its day; keys without one are counted and left out."""
    for file in files:
        day = layout.date_of(file.key)
        if day is None:
            found.undated += 1
            if len(found.undated_keys) < _SHOWN_KEYS:
                found.undated_keys.append(file.key)
            continue
        yield DatedFile(file, day)


def unknown(
    files: Iterator[DatedFile], ledger: Ledger, number: int, found: Found, progress: Progress | None = None
) -> Iterator[tuple[DatedFile, bool]]:
    """The files that the ledger does not know, and whether other content of their key was taken, and not given up.

    Also those that were ignored, where what was taken in their stead was given up since.
    """
    while chunk := list(islice(files, _COMPARED_AT_ONCE)):
        if progress is not None:
            progress.advance(files=len(chunk))
        with ledger.read() as tx:
            seen = known.between(tx, number, chunk)
        for one in seen.new_among(chunk):
            file, day = one.file, one.day
            if seen.was_ignored(file.key, file.etag):
                found.after_all.append(one)
            elif seen.has_key(file.key, day):
                found.note_overwritten(file.key)
            yield one, seen.was_taken(file.key, day)
