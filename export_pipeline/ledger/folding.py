"""Folding: replaces the rows of files, batches and acceptances of long-done manifests by one row each.

What remains is sufficient for every promise: manifests and deliveries with their counts, so that both equations can be
checked; a fingerprint of each file, so that it is recognized when listed again; and every batch's checksum, so that a
replay gives the same batches. To read a folded manifest again, its files are found in the source by their fingerprints,
and its id, a hash of their keys and etags, proves that they are the right ones.

A fingerprint has 16 bytes: 8 of BLAKE2b of the key, 8 of BLAKE2b of key and etag. New content of a folded key is
mistaken for the folded one once in 10^19; a new key is mistaken for a folded one with new content, among 10,000 near
it, once in 10^15.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from hashlib import blake2b
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    union_all,
    update,
)

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import deliveries, manifests
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.manifests import manifest_id_of
from export_pipeline.source.etag import spellings
from export_pipeline.source.file import SourceFile

_HALF = 8
_WHOLE = 2 * _HALF


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The folded files in a range of keys: only a fingerprint of each is left.

    Attributes:
        keys: the first half of each fingerprint.
        manifests: fingerprint → the manifest of the file.
    """

    keys: frozenset[bytes]
    manifests: dict[bytes, str]

    def has_key(self, key: str) -> bool:
        """Whether a file under *key*, with any content, was folded."""
        return bool(self.keys) and _of_key(key) in self.keys

    def manifest_of(self, file: SourceFile) -> str | None:
        """The manifest of exactly *file*; None if it is none of these."""
        found = self.manifests.get(fingerprint(file)) if self.manifests else None
        return found or (self._by_other_spelling(file.key, file.etag) if self.has_key(file.key) else None)

    def has_content(self, key: str, etag: str) -> bool:
        """Whether *key* was folded with this content."""
        if not self.manifests:
            return False
        return _of_content(key, etag) in self.manifests or bool(
            self.has_key(key) and self._by_other_spelling(key, etag)
        )

    def _by_other_spelling(self, key: str, etag: str) -> str | None:
        found = (self.manifests.get(_of_content(key, spelling)) for spelling in spellings(etag))
        return next((one for one in found if one), None)


def fingerprint(file: SourceFile) -> bytes:
    """16 bytes that identify one content of one key."""
    return _of_content(file.key, file.etag)


def stands_for(one: bytes, key: str) -> bool:
    """Whether a fingerprint belongs to *key*, with any content."""
    return one[:_HALF] == _of_key(key)


def near(
    tx: Connection, source_id: int, *, first_key: str, last_key: str, days: Iterable[date] | None = None
) -> Fingerprints:
    """Every folded file between two keys, both included, and some near them.

    Args:
        days: those of the keys; None: unknown, which costs a scan of everything folded.
    """
    keys = {"of_source": source_id, "first": first_key, "last": last_key}
    rows = tx.execute(_near(), keys) if days is None else tx.execute(_near_of_days(), {**keys, "days": sorted(days)})
    manifests = {one: row.manifest_id for row in rows for one in _split(row.fingerprints)}
    return Fingerprints(frozenset(one[:_HALF] for one in manifests), manifests)


# Built once: that takes as long as executing it, for every page of a listing.
@cache
def _near() -> Select[Any]:
    c = t.folded.c
    between = (c.first_key <= bindparam("last"), c.last_key >= bindparam("first"))
    return select(c.manifest_id, c.fingerprints).where(c.source_id == bindparam("of_source"), *between)


@cache
def _near_of_days() -> Select[Any]:
    return _near().where(t.folded.c.day.in_(bindparam("days", expanding=True)))


def of_file(tx: Connection, source_id: int, *, key: str, day: date) -> Fingerprints:
    """The folded files near one key; one query of an index."""
    return near(tx, source_id, first_key=key, last_key=key, days=[day])


def days_among(tx: Connection, source_id: int, days: Iterable[date]) -> set[date]:
    """Those of *days* of which anything is folded."""
    c = t.folded.c
    return {
        day for day in days if tx.execute(select(c.day).where(c.source_id == source_id, c.day == day).limit(1)).first()
    }


def fold(tx: Connection, source_id: int, *, before: date, most: int, now: datetime) -> int:
    """Fold at most *most* manifests of days before *before*; returns how many were, 0 once none is left.

    Excluded are manifests that are owed to anyone, that were given up (the quarantine may bring them back), or of which
    a subscriber has accepted a part. The caller prevents concurrent planning.
    """
    m, c, f = t.manifests.c, t.folded.c, t.files.c
    rows = tx.execute(
        select(m.id, m.day)
        .where(m.source_id == source_id, m.day < before, m.folded_at.is_(None), *_is_done())
        .order_by(m.day)
        .limit(most)
    ).all()
    days = {row.id: row.day for row in rows}
    if not days:
        return 0
    batches = _batches(tx, days)
    files = tx.execute(
        select(f.manifest_id, f.key, f.etag, f.size_bytes, f.last_modified)
        .where(f.manifest_id.in_(days))
        .order_by(f.manifest_id, f.key, f.etag)
    ).all()
    folded = []
    for manifest_id, group in groupby(files, key=lambda row: row.manifest_id):
        members = [SourceFile(*row[1:]) for row in group]
        folded.append(
            {
                c.manifest_id.name: manifest_id,
                c.source_id.name: source_id,
                c.day.name: days[manifest_id],
                c.first_key.name: members[0].key,
                c.last_key.name: members[-1].key,
                c.files.name: len(members),
                c.first_modified.name: min(member.last_modified for member in members),
                c.fingerprints.name: b"".join(fingerprint(member) for member in members),
                c.batches.name: zlib.compress(json.dumps(batches.get(manifest_id, [])).encode(), 9),
            }
        )
    tx.execute(insert(t.folded), folded)
    # A replay needs the portions of batches that answers have divided, which are few.
    for table in (t.acceptances, t.batches, t.files):
        tx.execute(delete(table).where(table.c.manifest_id.in_(days)))
    tx.execute(update(t.manifests).where(m.id.in_(days)).values(folded_at=now))
    return len(days)


def unfold(tx: Connection, manifest_id: str, files: Sequence[SourceFile], *, url: str, now: datetime) -> None:
    """Restore the rows of a folded manifest.

    Args:
        files: all of its files, in key order.
        url: of its source.

    Raises:
        LedgerError: these are not its files.
    """
    m, c = t.manifests.c, t.folded.c
    row = tx.execute(
        select(t.folded, m.max_events, m.max_bytes).join(t.manifests, m.id == c.manifest_id).where(m.id == manifest_id)
    ).first()
    if row is None:
        return
    found = manifest_id_of(url, files, max_events=row.max_events, max_bytes=row.max_bytes)
    if found != manifest_id:
        raise LedgerError(f"manifest {manifest_id}: the files found for it make manifest {found}")
    tx.execute(
        insert(t.files),
        [
            {
                "source_id": row.source_id,
                "key": file.key,
                "etag": file.etag,
                "size_bytes": file.size_bytes,
                "last_modified": file.last_modified,
                "day": row.day,
                "manifest_id": manifest_id,
                "seen_at": now,
            }
            for file in files
        ],
    )
    names = ("n", "events", "size_bytes", "crc32", "file_positions")
    batches = [
        {"manifest_id": manifest_id, **dict(zip(names, batch, strict=True))}
        for batch in json.loads(zlib.decompress(row.batches))
    ]
    if batches:
        tx.execute(insert(t.batches), batches)
    tx.execute(delete(t.folded).where(c.manifest_id == manifest_id))
    tx.execute(update(t.manifests).where(m.id == manifest_id).values(folded_at=None))


def stretch(tx: Connection, manifest_id: str) -> tuple[str, str, tuple[bytes, ...]]:
    """First key, last key and fingerprints, in key order, of a manifest's files, folded or not."""
    c, f = t.folded.c, t.files.c
    row = tx.execute(select(c.first_key, c.last_key, c.fingerprints).where(c.manifest_id == manifest_id)).first()
    if row is not None:
        return row.first_key, row.last_key, tuple(_split(row.fingerprints))
    rows = select(f.key, f.etag, f.size_bytes, f.last_modified).where(f.manifest_id == manifest_id)
    files = [SourceFile(*one) for one in tx.execute(rows.order_by(f.key, f.etag))]
    return files[0].key, files[-1].key, tuple(map(fingerprint, files))


def first_arrival(tx: Connection, *manifest_ids: ScalarSelect[Any] | str) -> datetime | None:
    """When the first file of some manifests arrived, folded or not."""
    c, f = t.folded.c, t.files.c
    arrivals = union_all(
        select(func.min(f.last_modified, type_=t.UtcDateTime())).where(f.manifest_id.in_(manifest_ids)),
        select(func.min(c.first_modified, type_=t.UtcDateTime())).where(c.manifest_id.in_(manifest_ids)),
    )
    return min((arrived for arrived in tx.execute(arrivals).scalars() if arrived), default=None)


def none_arrived_before(moment: datetime) -> tuple[ColumnElement[bool], ...]:
    """Whether no file of a manifest, folded or not, arrived before *moment*."""
    m, c, f = t.manifests.c, t.folded.c, t.files.c
    of_files = exists().where(f.manifest_id == m.id, f.last_modified < moment)
    of_folded = exists().where(c.manifest_id == m.id, c.first_modified < moment)
    return ~of_files, ~of_folded


def last_key(tx: Connection, manifest_id: str) -> str | None:
    """The last key of a manifest, folded or not."""
    c, f = t.folded.c, t.files.c
    key: str | None = tx.execute(select(func.max(f.key)).where(f.manifest_id == manifest_id)).scalar()
    return key if key is not None else tx.execute(select(c.last_key).where(c.manifest_id == manifest_id)).scalar()


def count_files(tx: Connection, source_id: int) -> int:
    """How many files are folded."""
    c = t.folded.c
    return int(tx.execute(select(func.coalesce(func.sum(c.files), 0)).where(c.source_id == source_id)).scalar_one())


def _is_done() -> tuple[ColumnElement[bool], ...]:
    m, d = t.manifests.c, t.deliveries.c
    # Counted per manifest, for which there is an index: PostgreSQL turns EXISTS into a join with all deliveries.
    of_it = select(func.count()).where(d.manifest_id == m.id, deliveries.is_open())
    still_open = of_it.correlate(t.manifests).scalar_subquery()
    # A part has no file rows that could be folded.
    return manifests.is_of_source(), m.part_of.is_(None), manifests.is_living(), still_open == 0


def _batches(tx: Connection, manifest_ids: Iterable[str]) -> dict[str, list[list[object]]]:
    b = t.batches.c
    rows = tx.execute(
        select(b.manifest_id, b.n, b.events, b.size_bytes, b.crc32, b.file_positions)
        .where(b.manifest_id.in_(list(manifest_ids)))
        .order_by(b.manifest_id, b.n)
    )
    found: dict[str, list[list[object]]] = {}
    for row in rows:
        found.setdefault(row.manifest_id, []).append(list(row[1:]))
    return found


def _of_content(key: str, etag: str) -> bytes:
    whole = f"{key}\0{etag}".encode("utf-8", "surrogatepass")
    return _of_key(key) + blake2b(whole, digest_size=_HALF).digest()


def _of_key(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_HALF).digest()


def _split(fingerprints: bytes) -> Iterator[bytes]:
    return (bytes(fingerprints[at : at + _WHOLE]) for at in range(0, len(fingerprints), _WHOLE))


def folded_before(tx: Connection, source_id: int) -> date | None:
    """The day up to which everything was folded; None: nothing ever was."""
    return tx.execute(select(t.sources.c.folded_before).where(t.sources.c.id == source_id)).scalar()


def set_folded_before(tx: Connection, source_id: int, day: date) -> None:
    """Record that nothing of days before *day* is left to fold."""
    tx.execute(update(t.sources).where(t.sources.c.id == source_id).values(folded_before=day))
