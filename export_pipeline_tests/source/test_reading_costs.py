"""The worst that a text can be: what framing costs grows with the file's bytes and with nothing else.

Counted, not timed: calls of functions, bytes given to the scanner, and bytes looked at in vain.
"""

import sys
from types import FrameType
from typing import Any

import pytest

from export_pipeline.source.checker import Checker
from export_pipeline.source.file import KIB, ReadLimits
from export_pipeline.source.framing import Framer
from export_pipeline.source.stepping import LOOKS_PER_BYTE
from export_pipeline_tests.source.framing_support import frame

LIMITS = ReadLimits(max_event_bytes=2 * KIB, free_look_bytes=KIB)
UNITS = [
    *(
        b"{",
        b"[",
        b'"',
        b"\\",
        b"}",
        b"]",
        b",",
        b":",
        b"1",
        b"1 ",
        b" ",
        b"\n",
        b"\r",
        b"\x1e",
        b"\xef\xbb\xbf",
        b"\0",
    ),
    *(
        b'{"a":',
        b"[{",
        b"{[",
        b"x{",
        b'{"',
        b'"{"',
        b"{x}",
        b"{}x",
        b"{ ",
        b'{"\\',
        b"x,",
        b"[x,",
        b"[1,",
        b"[1]",
        b"[]",
    ),
    *(b'{"a":1}x', b'x{"a":1}', b'":[{",', b'[":[{"]', b'["{"a":1}', b'[""{"a":1}', b'{"\xff":1}', b'[{"a":x},'),
    *(b'{"a":"', b'{"a":{}', b'[{"a":1},', b'{"a":1e9', b"[{}]", b"[{}]\n", b"{}", b"{} ", b"{}\r", b"{},", b"\x1e{}"),
    *(
        b"{\n",
        b"x\n",
        b'"\n',
        b"[\n",
        b"[1,2\n",
        b"x\n{}\n",
        b'{"a":[\n',
        b'{"a":1,\n',
        b'{"a":"bc\n',
        b"{'a':1}\n",
        b"a,b,c\n",
        b"[{},\n",
    ),
]


LARGE_BYTES = 16 * KIB
# An empty object takes the scanner a window of 128 bytes and two dozen calls, and there may be one in two bytes;
# a line of a torn one, which is read to the end of the line, three dozen.
MOST_CALLS_PER_BYTE, MOST_SCANNED_PER_BYTE = 40, 80


class CountingChecker(Checker):
    """Counts the characters that its scanner is given."""

    def __init__(self, limits: ReadLimits) -> None:
        super().__init__(limits)
        self.scanned = 0
        scan = self._scan

        def counting(s: str, idx: int = 0) -> tuple[Any, int]:
            self.scanned += len(s)
            return scan(s, idx)

        self._scan = counting


class Cost:
    """What framing *data* takes."""

    def __init__(self, data: bytes) -> None:
        checker = CountingChecker(LIMITS)
        framer = Framer(LIMITS, checker, portion_bytes=4 * KIB)
        self.calls = 0

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            self.calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            for at in range(0, len(data), 8 * KIB):
                framer.feed(data[at : at + 8 * KIB])
            framer.finish()
        finally:
            sys.setprofile(None)
        self.scanned = checker.scanned
        self.looked_bytes = framer._steps.looked_bytes
        self.records = framer.tally.stretches


@pytest.mark.parametrize(
    "begin", [pytest.param(b"", id=""), pytest.param(b'[{"a":1},', id="array", marks=pytest.mark.thorough)]
)
# Every second one each time, all at night: each is counted call by call.
@pytest.mark.parametrize(
    "unit",
    [pytest.param(unit, marks=pytest.mark.thorough) if n % 2 else unit for n, unit in enumerate(UNITS)],
    ids=repr,
)
def test_the_worst_text_costs_a_multiple_of_its_bytes(unit: bytes, begin: bytes) -> None:
    """Brackets, quotes, escapes, torn objects and their like: twice the bytes cost twice as much, and never a lot."""
    small, large = (Cost(begin + unit * (size // len(unit))) for size in (LARGE_BYTES // 2, LARGE_BYTES))
    # Four times as much would be quadratic.
    assert large.calls < 3 * small.calls + 2_000
    assert large.calls < MOST_CALLS_PER_BYTE * LARGE_BYTES
    # One look may be under way when too many were in vain.
    assert large.looked_bytes < LOOKS_PER_BYTE * LARGE_BYTES + LIMITS.free_look_bytes + 2 * LIMITS.max_event_bytes + (
        300 * large.records
    )
    assert large.scanned < MOST_SCANNED_PER_BYTE * LARGE_BYTES


def test_where_looks_are_used_up_lines_are_taken_one_by_one() -> None:
    """Behind too much that is broken, events that begin a line and end in it arrive, and other lines are one stretch.

    Once that is made up for, an event is found behind garbage in its line again.
    """
    event, late = b'{"e":"' + b"z" * 30 + b'"}', b'garbage {"l":1}'
    lines = b"x\nx\ny\n" + event + b"\n" + late + b"\n"
    limits = ReadLimits(free_look_bytes=0)
    result = frame(lines, limits=limits)
    assert (result.events, result.bad) == ([event], [b"x", b"x\ny", late])
    assert "only whole lines are checked here" in result.stretches[-1].reason
    recovered = frame(lines + (event + b"\n") * 500 + late, limits=limits)
    assert recovered.events == [event] * 501 + [b'{"l":1}']
    assert frame(lines).events == [event, b'{"l":1}']


@pytest.mark.parametrize("line", [b"[\n", b"[ \n", b"[1,2\n", b"[x]\n", b"[{\n", b"x\n", b'{"a":[\n'], ids=repr)
@pytest.mark.parametrize(
    "begin", [pytest.param(b"", id=""), pytest.param(b'[{"a":1},\n', id="array", marks=pytest.mark.thorough)]
)
def test_where_looks_are_used_up_lines_without_events_are_few_records(line: bytes, begin: bytes) -> None:
    """A record of the quarantine for each line of two bytes would take a hundred times their memory."""
    looks = ReadLimits(free_look_bytes=0)
    lines, some = 20_000, 100
    result = frame(begin + line * lines, limits=looks)
    few = LOOKS_PER_BYTE * len(line) * lines // 192 + some
    assert result.tally.stretches < min(few, lines // 5)
