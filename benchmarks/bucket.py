"""A bucket that the benchmark's server serves: keys, and the files on disk that hold their bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One object.

    Attributes:
        key: only ``[0-9A-Za-z/._-]``, so that no encoding is needed.
        etag: without quotes.
        size_bytes: of the body.
        modified: seconds since 1970, UTC.
        body: the file that holds the bytes; many keys may share one.
    """

    key: str
    etag: str
    size_bytes: int
    modified: int
    body: Path

    @property
    def http_date(self) -> str:
        """The modification time in HTTP's format."""
        return datetime.fromtimestamp(self.modified, timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")

    @property
    def iso_date(self) -> str:
        """The modification time in a listing's format."""
        return datetime.fromtimestamp(self.modified, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def write_index(path: Path, entries: Iterable[Entry]) -> None:
    """Write a bucket's index, one line per object. The order does not matter."""
    lines = (
        f"{e.key}\t{e.etag}\t{e.size_bytes}\t{e.modified}\t{os.path.relpath(e.body, path.parent)}\n" for e in entries
    )
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text("".join(lines), encoding="ascii")
    unfinished.replace(path)


def read_index(path: Path) -> list[Entry]:
    """A bucket's objects, in the order in which S3 lists them."""
    entries = []
    for line in path.read_text(encoding="ascii").splitlines():
        key, etag, size, modified, body = line.split("\t")
        entries.append(Entry(key, etag, int(size), int(modified), path.parent / body))
    return sorted(entries, key=lambda entry: entry.key)
