"""One file of the source, as a listing shows it."""

from datetime import datetime
from typing import NamedTuple


class SourceFile(NamedTuple):
    """A file in the source at one moment. A listing makes hundreds of thousands, each in a third of a dataclass's time.

    Attributes:
        key: relative to the source's URL, no leading slash; any Unicode that the store allows.
        etag: the store's tag of exactly these bytes, without quotes.
        size_bytes: as stored, that is compressed.
        last_modified: UTC. Never an order to rely on: one-second resolution, ties, slow uploads.
    """

    key: str
    etag: str
    size_bytes: int
    last_modified: datetime


def utf8(key: str) -> bytes:
    """What keys sort by in every store: their UTF-8 bytes, also of half a surrogate pair, as a local name may hold."""
    return key.encode("utf-8", "surrogatepass")
