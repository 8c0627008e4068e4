"""Framing as the tests look at it."""

from collections.abc import Iterable
from dataclasses import dataclass

from export_pipeline.source.checker import Checker
from export_pipeline.source.file import ReadLimits
from export_pipeline.source.framed import BadStretch, Lines, Tally
from export_pipeline.source.framing import Framer

DEFAULT = ReadLimits()


class RefusingChecker(Checker):
    """Vouches for nothing, so that every byte is read by the slow, exact reader."""

    def refused(self, parts: list[bytes], *, around: bytes) -> list[int]:
        return list(range(len(parts)))

    def vouches_for(self, lines: list[bytes]) -> bool:
        return False

    def object_end(self, text: bytes, start: int, stop: int) -> int:
        return -1


@dataclass(frozen=True)
class Result:
    """What came of a file."""

    events: list[bytes]
    stretches: list[BadStretch]
    tally: Tally

    @property
    def bad(self) -> list[bytes]:
        """The bytes of the malformed records."""
        return [stretch.data for stretch in self.stretches]


def frame(
    data: bytes,
    *,
    cuts: Iterable[int] = (),
    limits: ReadLimits = DEFAULT,
    checker: Checker | None = None,
    portion_bytes: int = 1 << 19,
) -> Result:
    """Frame *data*, fed in pieces that end at *cuts*, and check that every byte is accounted for."""
    framer = Framer(limits, checker or Checker(limits), portion_bytes=portion_bytes)
    framed = []
    begin = 0
    for end in (*sorted(cuts), len(data)):
        if end > begin:
            framed += framer.feed(data[begin:end])
        begin = end
    framed += framer.finish()
    events = [event for part in framed if not isinstance(part, BadStretch) for event in events_of(part)]
    stretches = [part for part in framed if isinstance(part, BadStretch)]
    tally = framer.tally
    assert tally.events_bytes + tally.separators_bytes + tally.stretches_bytes == len(data)
    assert (tally.events, tally.stretches) == (len(events), len(stretches))
    for stretch in stretches:
        assert stretch.data == data[stretch.offset :][: len(stretch.data)]
        assert len(stretch.data) == stretch.length or stretch.length > limits.max_event_bytes
    return Result(events, stretches, tally)


def events_of(found: Lines | list[bytes]) -> list[bytes]:
    """The events, each by itself."""
    if not isinstance(found, Lines):
        return found
    *events, rest = bytes(found.text).split(b"\n")
    assert rest == b""
    assert len(events) == found.events
    return events


def frame_every_way(data: bytes, *, limits: ReadLimits = DEFAULT) -> Result:
    """Frame *data* whole, cut in two at every byte, in small portions and pieces, and slowly: to the same result."""
    whole = frame(data, limits=limits)
    for cut in range(1, len(data)):
        assert frame(data, cuts=[cut], limits=limits) == whole, f"cut at byte {cut}"
    for portion_bytes in range(1, len(data)):
        assert frame(data, portion_bytes=portion_bytes, limits=limits) == whole, f"portions of {portion_bytes} bytes"
    assert frame(data, cuts=range(1, len(data)), limits=limits) == whole
    assert frame(data, limits=limits, checker=RefusingChecker(limits)) == whole
    return whole
