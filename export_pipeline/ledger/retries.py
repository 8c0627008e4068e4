"""The quarantine objects that a retry has planned, until they are read: a retry may die before it archives them."""

from sqlalchemy import ColumnElement, Connection, and_, select, update

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.manifests import Manifest


def note_file(tx: Connection, identity: str, name: str, *, key: str, etag: str) -> None:
    """Record that a file that was given up is retried, from the quarantine's object *name*.

    Args:
        identity: its manifest.
        key, etag: of the file, whose row is that of the whole where the manifest is a part.
    """
    f, m = t.files.c, t.manifests.c
    source = select(m.source_id).where(m.id == identity).scalar_subquery()
    tx.execute(update(t.files).where(f.source_id == source, f.key == key, f.etag == etag).values(note=name))


def of_manifest(tx: Connection, found: Manifest) -> set[str]:
    """The objects from which a retry created or reopened the manifest, and which may not have been archived yet."""
    f = t.files.c
    return set(tx.execute(select(f.note).where(_rows_of(found), f.note.is_not(None))).scalars())


def forget(tx: Connection, found: Manifest) -> None:
    """Record that none of them is waiting any more."""
    tx.execute(update(t.files).where(_rows_of(found)).values(note=None))


def _rows_of(found: Manifest) -> ColumnElement[bool]:
    f, first = t.files.c, found.files[0]
    if found.part_of is not None:
        return and_(f.source_id == found.source_id, f.key == first.key, f.etag == first.etag)
    return f.manifest_id == found.id
