"""Which objects of the quarantine a retry has planned, until that is read: a retry may die before it archives them."""

from sqlalchemy import ColumnElement, Connection, and_, select, update

from export_pipeline.ledger import tables as t
from export_pipeline.ledger.manifests import Manifest


def note_file(tx: Connection, identity: str, name: str, *, key: str, etag: str) -> None:
    """Keep that a file which was given up is tried again, out of the quarantine's object *name*.

    Args:
        identity: its manifest.
        key, etag: of the file, whose row is that of the whole where the manifest is a part.
    """
    f, m = t.files.c, t.manifests.c
    source = select(m.source_id).where(m.id == identity).scalar_subquery()
    tx.execute(update(t.files).where(f.source_id == source, f.key == key, f.etag == etag).values(note=name))


def of_manifest(tx: Connection, found: Manifest) -> set[str]:
    """The objects that a retry made the manifest of, or opened it again from, and that nobody has archived for sure."""
    f = t.files.c
    return set(tx.execute(select(f.note).where(_rows_of(found), f.note.is_not(None))).scalars())


def forget(tx: Connection, found: Manifest) -> None:
    """Note that none of them waits any more."""
    tx.execute(update(t.files).where(_rows_of(found)).values(note=None))


def _rows_of(found: Manifest) -> ColumnElement[bool]:
    f, first = t.files.c, found.files[0]
    if found.part_of is not None:
        return and_(f.source_id == found.source_id, f.key == first.key, f.etag == first.etag)
    return f.manifest_id == found.id
