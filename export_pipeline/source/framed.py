"""The results of framing: events, malformed records, and the tally of both."""

from dataclasses import dataclass
from io import BytesIO

from export_pipeline.source.file import KIB

KEPT_BYTES = 64 * KIB
"""How much is kept of a malformed record longer than ``max_event_bytes``."""


@dataclass(frozen=True, slots=True)
class BadStretch:
    """Bytes that are not an event.

    Attributes:
        offset: of the first byte, in the decompressed file.
        length: number of bytes; 0 if the file ends too early and nothing else shows it.
        reason: why they are not an event, in words.
        data: the bytes; only the first ``KEPT_BYTES`` if there are more than ``max_event_bytes``.
    """

    offset: int
    length: int
    reason: str
    data: bytes


@dataclass(slots=True)
class Tally:
    """What a file consists of; bytes are counted as they occur in the file."""

    events: int = 0
    events_bytes: int = 0
    separators_bytes: int = 0
    stretches: int = 0
    stretches_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All bytes accounted for."""
        return self.events_bytes + self.separators_bytes + self.stretches_bytes


@dataclass(frozen=True, slots=True)
class Lines:
    """Events that look the same in the file as in a batch: one a line, and each line ends with a line feed.

    Attributes:
        text: the lines; a view if it makes up most of the text it is a view of.
        events: number of lines.
    """

    text: bytes | memoryview
    events: int


Framed = Lines | list[bytes] | BadStretch
"""Events, as lines or one by one, compact and without a line feed; or a malformed record."""


def split_lines(text: bytes) -> tuple[list[bytes], bytes]:
    """The lines of *text*, without line feeds, and whatever follows the last line feed.

    ``bytes.split`` returns the same; but it looks at one byte at a time, and takes twice as long for long lines.
    """
    lines = BytesIO(text).readlines()
    rest = lines.pop() if lines and not text.endswith(b"\n") else b""
    return [line[:-1] for line in lines], rest
