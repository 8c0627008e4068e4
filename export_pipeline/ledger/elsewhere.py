"""A look into a ledger that is not the deployment's own, without opening it as one: nothing is made or migrated."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path


def knows_source(path: Path, source_urls: Sequence[str]) -> bool:
    """Whether the SQLite file at *path* is a ledger in which one of these sources was listed."""
    marks = ", ".join("?" for _ in source_urls)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(f"SELECT 1 FROM sources WHERE url IN ({marks})", source_urls)  # noqa: S608
            return found.fetchone() is not None
    except sqlite3.Error:
        return False  # no ledger, or one of a version before there were sources
