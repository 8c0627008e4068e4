"""Keys of which nothing could be read: with ``on_overwrite: ignore``, too, sound content under them is taken."""

from collections.abc import Iterable, Mapping
from datetime import date

from sqlalchemy import Connection, delete, select

from export_pipeline.ledger import folding
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.planning import DatedFile


def never_read_keys(
    tx: Connection, source: int, *, first_key: str, last_key: str, days: Mapping[str, date | None] | None = None
) -> dict[str, set[str]]:
    """Keys between two, both included, whose every content that was taken has been given up → its etags.

    Not those of which an earlier content was folded, since that was delivered.

    Args:
        days: key → its day, of the keys that matter; None: all of them.
    """
    m, f = t.manifests.c, t.files.c
    # By an index of what could not be read, which is all but empty. What is given up is given up alone, so that the
    # first key is the only one.
    given_up = select(m.first_key, m.day).where(
        m.source_id == source, m.read_attempts > 0, m.state == t.GIVEN_UP, m.first_key.between(first_key, last_key)
    )
    found: dict[str, set[str]] = {}
    for key, day in {row.first_key: row.day for row in tx.execute(given_up)}.items():
        if days is not None and key not in days:
            continue
        taken = tx.execute(
            select(f.etag, m.state).join(t.manifests, m.id == f.manifest_id).where(f.source_id == source, f.key == key)
        ).all()
        if all(row.state == t.GIVEN_UP for row in taken) and not folding.of_file(tx, source, key=key, day=day).has_key(
            key
        ):
            found[key] = {row.etag for row in taken}
    return found


def take_after_all(tx: Connection, source: int, files: Iterable[DatedFile]) -> None:
    """Forget that *files* were seen and not taken, so that they can be planned."""
    f = t.files.c
    for one in files:
        tx.execute(
            delete(t.files).where(
                f.source_id == source, f.key == one.file.key, f.etag == one.file.etag, f.manifest_id.is_(None)
            )
        )
