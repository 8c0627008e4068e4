"""A file of the source as a listing shows it, and the limits within which it is read."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class SourceFile(NamedTuple):
    """A file in the source at one moment. Listings create hundreds of thousands; a dataclass takes three times as long.

    Attributes:
        key: relative to the source's URL, no leading slash; any Unicode that the store allows.
        etag: the store's tag of exactly these bytes, without quotes.
        size_bytes: as stored, that is, compressed.
        last_modified: UTC. Never rely on its order: one-second resolution, ties, slow uploads.
    """

    key: str
    etag: str
    size_bytes: int
    last_modified: datetime


def utf8(key: str) -> bytes:
    """What every store sorts keys by: their UTF-8 bytes. Lone surrogates, possible in local names, are encoded too."""
    return key.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits for reading. An event beyond its limits is quarantined; a file beyond its limits is isolated.

    Attributes:
        max_event_bytes: longest event, in bytes of the decompressed file.
        max_depth: deepest nesting of an event; ``{}`` has depth 1.
        max_unpacked_ratio: most decompressed bytes per stored byte. A file of at most ``ratio_floor_bytes``
            decompressed is never rejected for its ratio: a few kilobytes of one repeated event compress a thousandfold
            and do no harm.
        max_unpacked_bytes: most bytes a file may decompress to, whatever its ratio.
        ratio_floor_bytes: decompressed size up to which the ratio does not count.
        free_look_bytes: how many bytes the search for events in malformed data may scan, whatever the file's size,
            before its lines are taken one by one; see ``stepping``.
    """

    max_event_bytes: int = 16 * MIB
    max_depth: int = 512
    max_unpacked_ratio: int = 1000
    max_unpacked_bytes: int = 64 * GIB
    ratio_floor_bytes: int = 16 * MIB
    free_look_bytes: int = MIB

    def unpacked_bytes(self, stored_bytes: int) -> int:
        """Most bytes that a file of *stored_bytes* may decompress to."""
        by_ratio = max(self.ratio_floor_bytes, self.max_unpacked_ratio * stored_bytes)
        return min(self.max_unpacked_bytes, by_ratio)
