"""What framing makes of a file."""

from dataclasses import dataclass
from io import BytesIO

from export_pipeline.source.file import KIB

KEPT_BYTES = 64 * KIB
"""What is kept of a bad stretch longer than ``max_event_bytes``."""


@dataclass(frozen=True, slots=True)
class BadStretch:
    """Bytes that are no event.

    Attributes:
        offset: of the first byte, in the unpacked file.
        length: number of bytes; 0 where the file ends too early and nothing else shows it.
        reason: in words.
        data: the bytes; only the first ``KEPT_BYTES`` of them where there are more than ``max_event_bytes``.
    """

    offset: int
    length: int
    reason: str
    data: bytes


@dataclass(slots=True)
class Tally:
    """What a file was made of; bytes are counted as they lie in the file."""

    events: int = 0
    events_bytes: int = 0
    separators_bytes: int = 0
    stretches: int = 0
    stretches_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All bytes that were accounted for."""
        return self.events_bytes + self.separators_bytes + self.stretches_bytes


@dataclass(frozen=True, slots=True)
class Lines:
    """Events that lie in a file as they will in a batch: one a line, and each line ends with a line feed.

    Attributes:
        text: the lines; a view where it makes up most of what it is a view of.
        events: number of lines.
    """

    text: bytes | memoryview
    events: int


Framed = Lines | list[bytes] | BadStretch
"""Events, as lines or each by itself, compact and without a line feed; or a bad stretch."""


def split_lines(text: bytes) -> tuple[list[bytes], bytes]:
    """The lines of *text*, without line feeds, and what stands behind the last line feed.

    What bytes.split finds, too; but that looks at one byte after the other, and takes twice as long for long lines.
    """
    lines = BytesIO(text).readlines()
    rest = lines.pop() if lines and not text.endswith(b"\n") else b""
    return [line[:-1] for line in lines], rest
