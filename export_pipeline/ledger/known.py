"""What the ledger knows of files: the one place that decides whether a file was seen, taken, ignored or folded.

Because of this, a file is planned once, however it was found: by a listing, a message, a check or a backfill.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, select

from export_pipeline.ledger import folding, manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.folding import Fingerprints
from export_pipeline.ledger.manifests import ManifestState
from export_pipeline.ledger.records import DatedFile
from export_pipeline.source.etag import are_same
from export_pipeline.source.file import SourceFile, utf8

_KEYS_A_QUERY = 500
_NONE = Fingerprints(frozenset(), {})


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of some keys.

    Attributes:
        manifests: (key, etag) → the manifest that holds it; None: seen and, by configuration, not taken.
        taken: keys of which some content was taken and can be read, or seen and not taken, those folded aside.
        never_read: key → etags, where no content that was taken can be read.
        fingerprints: day → those of the folded files near these keys; under None, of all these days together.
        takes_ignored: what was seen and, by the configuration of then, not taken, is taken now.
    """

    manifests: Mapping[tuple[str, str], str | None]
    taken: frozenset[str]
    never_read: Mapping[str, set[str]]
    fingerprints: Mapping[date | None, Fingerprints]
    takes_ignored: bool = False

    def new_among(self, files: Sequence[DatedFile]) -> list[DatedFile]:
        """Those of *files* that are to be planned. Of a listing nearly all are known, so most cost one look."""
        is_any_taken_after_all = self.never_read or (self.takes_ignored and None in self.manifests.values())
        some = files if is_any_taken_after_all else [one for one in files if one.file[:2] not in self.manifests]
        return [one for one in some if not self.has(one.file, one.day)]

    def has(self, file: SourceFile, day: date | None) -> bool:
        """Whether *file* need not be planned: its content was seen, and is not one that is taken after all."""
        seen = self._spelling(file) in self.manifests and not self.was_ignored(file.key, file.etag)
        return seen or self._fingerprints(day).has_content(file.key, file.etag)

    def has_key(self, key: str, day: date | None) -> bool:
        """Whether any content of *key* is known."""
        return key in self.taken or key in self.never_read or self._fingerprints(day).has_key(key)

    def was_taken(self, key: str, day: date | None) -> bool:
        """Whether other content of *key* was taken and can be read: new content overwrites it."""
        return key in self.taken or self._fingerprints(day).has_key(key)

    def was_ignored(self, key: str, etag: str) -> bool:
        """Whether this content was an overwrite that nobody took, and that is taken now.

        What was taken in its stead could never be read, or overwrites are read from now on.
        """
        if self.takes_ignored and self.manifests.get((key, etag), "") is None:
            return True
        return bool(self.never_read) and etag not in self.never_read.get(key, {etag}) and (key, etag) in self.manifests

    def manifest_of(self, file: SourceFile, day: date | None) -> str | None:
        """The manifest of exactly *file*."""
        return self._fingerprints(day).manifest_of(file) or self.manifests.get(self._spelling(file))

    def _spelling(self, file: SourceFile) -> tuple[str, str]:
        """Key and etag of *file* as they were recorded: earlier versions kept other spellings of some etags.

        Except for a key of which nothing could be read: the spelling may be the only cause, so the file is retried.
        """
        as_listed = file.key, file.etag
        if as_listed in self.manifests or file.key not in self.taken:
            return as_listed
        same = (one for one in self.manifests if one[0] == file.key and are_same(one[1], file.etag))
        return next(same, as_listed)

    def _fingerprints(self, day: date | None) -> Fingerprints:
        return self.fingerprints.get(None) or self.fingerprints.get(day) or _NONE


def between(tx: Connection, source_id: int, files: Sequence[DatedFile], *, takes_ignored: bool = False) -> Known:
    """What is known of a stretch of a listing, its keys in order: a page of it costs three queries of an index.

    Args:
        takes_ignored: see :class:`Known`.
    """
    first_key, last_key = files[0].file.key, files[-1].file.key
    # All at once: row by row takes a sixth longer.
    rows = tx.execute(_between(), {"of_source": source_id, "first": first_key, "last": last_key}).all()
    never_read = _never_read(tx, source_id, first_key, last_key, None)
    fingerprints = folding.near(tx, source_id, first_key=first_key, last_key=last_key, days={one.day for one in files})
    found = _known({(key, etag): manifest for key, etag, manifest in rows}, never_read, {None: fingerprints})
    return replace(found, takes_ignored=takes_ignored)


# The statements for every page of a listing are built once: that takes as long as executing them.
@cache
def _between() -> Select[Any]:
    f = t.files.c
    between = f.key.between(bindparam("first"), bindparam("last"))
    return select(f.key, f.etag, f.manifest_id).where(f.source_id == bindparam("of_source"), between)


@cache
def _closed_between() -> Select[Any]:
    m = t.manifests.c
    # Uses the index of what could not be read, which is nearly empty. A file that is given up is alone in its manifest,
    # so that the first key is the only one.
    closed = (m.source_id == bindparam("of_source"), m.read_attempts > 0, ~manifests.is_living())
    between = m.first_key.between(bindparam("first"), bindparam("last"))
    return select(m.first_key, m.day).where(*closed, between)


def of_keys(tx: Connection, source_id: int, days: Mapping[str, date | None]) -> Known:
    """What is known about keys that may be far apart.

    Args:
        days: key → its day; None if it has none.
    """
    f = t.files.c
    keys = sorted(days)
    manifests: dict[tuple[str, str], str | None] = {}
    for at in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[at : at + _KEYS_A_QUERY]
        rows = tx.execute(select(f.key, f.etag, f.manifest_id).where(f.source_id == source_id, f.key.in_(some)))
        manifests |= {(key, etag): manifest for key, etag, manifest in rows}
    ends = (min(days, key=utf8, default=""), max(days, key=utf8, default=""))
    of_days = folding.days_among(tx, source_id, {day for day in days.values() if day is not None})
    fingerprints: dict[date | None, Fingerprints] = {}
    for day in of_days:
        of_day = sorted((key for key, one in days.items() if one == day), key=utf8)
        fingerprints[day] = _together([folding.of_file(tx, source_id, key=key, day=day) for key in of_day])
    return _known(manifests, _never_read(tx, source_id, *ends, days), fingerprints)


def take_after_all(tx: Connection, source_id: int, files: Iterable[DatedFile]) -> None:
    """Forget that *files* were seen and not taken, so that they can be planned."""
    f = t.files.c
    for one in files:
        tx.execute(
            delete(t.files).where(
                f.source_id == source_id, f.key == one.file.key, f.etag == one.file.etag, f.manifest_id.is_(None)
            )
        )


def _known(
    manifests: dict[tuple[str, str], str | None],
    never_read: dict[str, set[str]],
    fingerprints: Mapping[date | None, Fingerprints],
) -> Known:
    return Known(manifests, frozenset(key for key, _ in manifests) - never_read.keys(), never_read, fingerprints)


def _together(some: Sequence[Fingerprints]) -> Fingerprints:
    manifests = {one: manifest_id for fingerprints in some for one, manifest_id in fingerprints.manifests.items()}
    return Fingerprints(frozenset().union(*(fingerprints.keys for fingerprints in some)), manifests)


def _never_read(
    tx: Connection, source_id: int, first_key: str, last_key: str, days: Mapping[str, date | None] | None
) -> dict[str, set[str]]:
    """Keys between two, both included, for which every content that was taken is closed → its etags.

    Except those with an earlier folded content, since that was delivered.
    """
    m, f = t.manifests.c, t.files.c
    closed = tx.execute(_closed_between(), {"of_source": source_id, "first": first_key, "last": last_key})
    found: dict[str, set[str]] = {}
    for key, day in {row.first_key: row.day for row in closed}.items():
        if days is not None and key not in days:
            continue
        taken = tx.execute(
            select(f.etag, m.state)
            .join(t.manifests, m.id == f.manifest_id)
            .where(f.source_id == source_id, f.key == key)
        ).all()
        fingerprints = folding.of_file(tx, source_id, key=key, day=day)
        if all(ManifestState(row.state).is_closed for row in taken) and not fingerprints.has_key(key):
            found[key] = {row.etag for row in taken}
    return found


def etags_of(tx: Connection, source_id: int, keys: Sequence[str]) -> dict[str, set[str]]:
    """Key → etags that the ledger has seen, for those of *keys* that it knows, however far apart they are."""
    f = t.files.c
    known: dict[str, set[str]] = {}
    for at in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[at : at + _KEYS_A_QUERY]
        for key, etag in tx.execute(select(f.key, f.etag).where(f.source_id == source_id, f.key.in_(some))):
            known.setdefault(key, set()).add(etag)
    return known
