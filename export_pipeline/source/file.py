"""One file of the source, as a listing shows it."""

from dataclasses import dataclass
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


KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What reading refuses. An event beyond its limits is quarantined; a file beyond its limits is isolated.

    Attributes:
        max_event_bytes: longest event, in bytes as they lie in the unpacked file.
        max_depth: deepest nesting of an event; ``{}`` has depth 1.
        max_unpacked_ratio: most bytes a file may unpack to, per byte as stored. A file that unpacks to
            ``ratio_floor_bytes`` or less is never refused for its ratio: a few kilobytes of one repeated event
            compress a thousandfold and harm nobody.
        max_unpacked_bytes: most bytes a file may unpack to, whatever its ratio.
        ratio_floor_bytes: unpacked size up to which the ratio does not count.
        free_look_bytes: how much looking for events in something broken may cost, whatever the file's size, before
            its lines are taken one by one; see ``stepping``.
    """

    max_event_bytes: int = 16 * MIB
    max_depth: int = 512
    max_unpacked_ratio: int = 1000
    max_unpacked_bytes: int = 64 * GIB
    ratio_floor_bytes: int = 16 * MIB
    free_look_bytes: int = MIB

    def unpacked_bytes(self, stored_bytes: int) -> int:
        """Most bytes that a file of *stored_bytes* may unpack to."""
        by_ratio = max(self.ratio_floor_bytes, self.max_unpacked_ratio * stored_bytes)
        return min(self.max_unpacked_bytes, by_ratio)
