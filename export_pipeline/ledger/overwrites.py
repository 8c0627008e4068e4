"""Older versions of files that were overwritten, and what a subscriber has of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from export_pipeline.ledger import deliveries, manifests, parts
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.source.file import SourceFile

_KEYS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class Older:
    """An older version of a file.

    Attributes:
        manifest: which holds it.
        is_owed: the subscriber is still to receive it.
        is_received: the subscriber has received all of its events.
    """

    key: str
    file: SourceFile
    manifest: Manifest
    is_owed: bool
    is_received: bool


def older_files(tx: Connection, found: Manifest, subscription_id: int) -> dict[str, list[Older]]:
    """Key → versions of it that were seen before the one in the manifest *found*, and taken; the oldest first.

    Of two that were seen at once, such as by two messages, the one that was modified first is the older: of any two
    versions exactly one waits for the other. Those of folded days are left out, since the ledger no longer has their
    names.
    """
    f = t.files.c
    etags = {file.key: file.etag for file in found.files}
    keys = sorted(etags)
    older: dict[str, list[Older]] = {}
    for at in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[at : at + _KEYS_A_QUERY]
        rows = tx.execute(
            select(f.key, f.etag, f.size_bytes, f.last_modified, f.manifest_id, f.seen_at).where(
                f.source_id == found.source_id, f.key.in_(some), f.manifest_id.is_not(None)
            )
        ).all()
        ages = {row.key: _age(row) for row in rows if row.etag == etags[row.key]}
        for row in sorted(rows, key=_age):
            if row.key not in ages or _age(row) >= ages[row.key]:
                continue
            file = SourceFile(row.key, row.etag, row.size_bytes, row.last_modified)
            older.setdefault(row.key, []).append(_version(tx, row.manifest_id, file, subscription_id))
    return older


def is_replaced(tx: Connection, source_id: int, key: str, etag: str) -> bool:
    """Whether a newer version of a file was read."""
    f = t.files.c
    rows = tx.execute(
        select(f.etag, f.last_modified, f.manifest_id, f.seen_at).where(
            f.source_id == source_id, f.key == key, f.manifest_id.is_not(None)
        )
    ).all()
    ages = [_age(row) for row in rows if row.etag == etag]
    newer = [row.manifest_id for row in rows if ages and _age(row) > ages[0]]
    return any(manifests.get(tx, identity).state.is_read for identity in newer)


def _age(row: Any) -> tuple[datetime, datetime, str]:
    """Less for an older version of the same file."""
    return row.seen_at, row.last_modified, row.etag


def _version(tx: Connection, manifest_id: str, file: SourceFile, subscription_id: int) -> Older:
    d = t.deliveries.c
    stored = tx.execute(
        select(d.state).where(d.manifest_id == manifest_id, d.subscription_id == subscription_id)
    ).scalar()
    state = deliveries.STATES[stored] if stored is not None else None
    if state is not None and state.is_split:
        state = parts.delivery_states(tx, manifest_id, file.key).get(subscription_id)
    return Older(
        key=file.key,
        file=file,
        manifest=manifests.get(tx, manifest_id),
        is_owed=state is not None and state.is_owed,
        is_received=state is not None and state.is_delivered,
    )
