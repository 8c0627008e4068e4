"""Counts what unpacking one file costs while it happens, however many packings are nested in each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from export_pipeline.errors import FileOverLimit
from export_pipeline.source.file import MIB, ReadLimits

PIECE_BYTES = 4 * MIB
"""Largest piece: unpacking one takes long compared with waiting for the interpreter's lock before and after."""

MAX_PACKINGS = 3
"""Most nested packings: gzip in gzip in a zip archive."""

# An empty part (an empty gzip member has 20 bytes) costs about as much as unpacking this many bytes.
_PART_BYTES = 64
_PARTS_A_CHECKPOINT = 1_000
# Some formats are written to disk before they are unpacked. Stored directly they have the file's size; inside another
# packing they could be zeros without end.
_MAX_SPOOLED_RATIO = 32

Checkpoint = Callable[[], None]
"""Called every few mebibytes; raises if reading must stop."""


def go_on() -> None:
    """Nothing stops reading."""


@dataclass(slots=True)
class Unpacking:
    """One file that is being unpacked.

    Attributes:
        key: for the error messages.
        size_bytes: of the file as stored.
        packings: names of the nested packings found so far, outermost first.
    """

    key: str
    size_bytes: int
    limits: ReadLimits
    checkpoint: Checkpoint = go_on
    packings: tuple[str, ...] = ()
    _bytes: dict[int, int] = field(default_factory=dict)  # by depth
    _parts: dict[int, int] = field(default_factory=dict)

    def inside(self, packing: str) -> "Unpacking":
        """The same file, one packing deeper.

        Raises:
            FileOverLimit: that is one too many.
        """
        packings = (*self.packings, packing)
        if len(packings) > MAX_PACKINGS:
            raise FileOverLimit(
                self.key,
                f"{len(packings)} nested packings ({' in '.join(reversed(packings))}), allowed are {MAX_PACKINGS}",
            )
        return Unpacking(self.key, self.size_bytes, self.limits, self.checkpoint, packings, self._bytes, self._parts)

    def spend(self, size_bytes: int) -> None:
        """Count *size_bytes* that came out of this packing.

        Raises:
            FileOverLimit: they exceed the limits for the whole file.
        """
        depth = len(self.packings)
        spent = self._bytes[depth] = self._bytes.get(depth, 0) + size_bytes
        most = self.limits.unpacked_bytes(self.size_bytes)
        if spent > most:
            raise FileOverLimit(
                self.key,
                f"unpacks to more than {most} bytes from {self.size_bytes} (max_unpacked_bytes: "
                f"{self.limits.max_unpacked_bytes}, max_unpacked_ratio: {self.limits.max_unpacked_ratio})",
            )

    def begin_part(self) -> None:
        """Count the beginning of a member, frame, stream or entry.

        Raises:
            FileOverLimit: the empty parts alone cost more than the limits allow.
        """
        depth = len(self.packings)
        parts = self._parts[depth] = self._parts.get(depth, 0) + 1
        if parts % _PARTS_A_CHECKPOINT == 0:
            self.checkpoint()
        most = max(self.limits.unpacked_bytes(self.size_bytes) // _PART_BYTES, self.size_bytes)
        if parts > most:
            raise FileOverLimit(
                self.key,
                f"the {self.packings[-1]} data has more than {most} parts, from {self.size_bytes} bytes as stored",
            )

    def counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, the output of this packing, none of them empty."""
        for piece in pieces:
            self.checkpoint()
            if piece:
                self.spend(len(piece))
                yield piece

    def spoolable(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, which are written to disk as they are stored inside the outer packings.

        Raises:
            FileOverLimit: they are too many.
        """
        most = max(self.size_bytes, self.limits.ratio_floor_bytes, _MAX_SPOOLED_RATIO * self.size_bytes)
        spooled = 0
        for piece in pieces:
            self.checkpoint()
            spooled += len(piece)
            if spooled > most:
                raise FileOverLimit(
                    self.key,
                    f"contains a {self.packings[-1]} of more than {most} bytes in {self.size_bytes} stored bytes: too "
                    "large to write to disk",
                )
            yield piece
