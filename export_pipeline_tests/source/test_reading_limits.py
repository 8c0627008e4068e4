"""What an event or a file may cost: each limit is reached, and memory is measured where a limit protects it."""

import subprocess
import sys

import pytest

from export_pipeline.source.file import GIB, MIB, ReadLimits
from export_pipeline.source.framed import KEPT_BYTES, BadStretch
from export_pipeline_tests.source.framing_support import frame, frame_every_way

A = b'{"a":1}'
SMALL = ReadLimits(max_event_bytes=20)


@pytest.mark.parametrize("around", [(b"", b"\n"), (b"  ", b" \r\n"), (A, A), (b"[", b"]"), (b"", b"")])
def test_the_longest_event_passes(around: tuple[bytes, bytes]) -> None:
    """An event of exactly max_event_bytes passes, whatever surrounds it."""
    event = b'{"s":"123456789012"}'
    before, behind = around
    result = frame_every_way(before + event + behind, limits=SMALL)
    assert result.events == [part for part in (before, event, behind) if part.startswith(b"{")]
    assert result.stretches == []


@pytest.mark.parametrize("around", [(b"", b"\n"), (b"\n", b" \r\n"), (A, A), (b"[" + A + b",", b"]")])
def test_a_longer_event_is_set_aside(around: tuple[bytes, bytes]) -> None:
    """An event of one byte more is one malformed record up to its own end, and what surrounds it is found."""
    event = b'{"s":"1234567890123"}'
    before, behind = around
    result = frame_every_way(before + event + behind, limits=SMALL)
    assert result.events == [A] * (before + behind).count(A)
    assert [(stretch.offset, stretch.length) for stretch in result.stretches] == [(len(before), len(event))]
    assert result.stretches[0].reason.startswith("longer than max_event_bytes, 20 ")


def test_what_a_too_long_event_encloses_is_no_event() -> None:
    """The end of an event that is too long is found by its brackets, however far it is, and no part of it passes."""
    nested = b'{"l":[' + b",".join([b'{"q":"}{"}'] * 20) + b'],"n":{"r":1}}'
    result = frame_every_way(nested + A + nested + b"\n" + A, limits=SMALL)
    assert result.events == [A, A]
    assert [stretch.length for stretch in result.stretches] == [len(nested), len(nested)]
    lines = b'{"l":[\n' + b",\n".join([b'{"q":1}\n'] * 9) + b"]}\n"
    result = frame_every_way(lines + A, limits=SMALL)
    assert (result.events, result.stretches[0].length) == ([A], len(lines) - 1)


@pytest.mark.parametrize("garbage", [b"x" * 1000, b"{" * 1000, b'"' * 1000, b'{"a":"' + b"b" * 1000, b"[" * 1000])
def test_garbage_without_end_is_one_stretch(garbage: bytes) -> None:
    """A line longer than max_event_bytes is one malformed record to its end."""
    result = frame(A + garbage + b"\n" + A, limits=SMALL)
    assert result.events == [A, A]
    assert result.bad == [garbage]
    assert result == frame(A + garbage + b"\n" + A, limits=SMALL, cuts=range(0, 1000, 13))


@pytest.mark.parametrize("max_event_bytes", range(1, 12))
def test_what_lies_beyond_the_limit_is_not_looked_at(max_event_bytes: int) -> None:
    """Where looking ends is decided by the limit, never by how much of the file has come."""
    for data in (
        b'\xef\xbb\xbf[\n{"a":1,\r\n]\n',
        b'[  {"a":1} , {"b"} , {"c":3}]',
        b'{"a":{} {"b":{}',
        b"[[1],  [2]]",
    ):
        frame_every_way(data, limits=ReadLimits(max_event_bytes=max_event_bytes))


def test_a_stretch_beyond_the_limit_keeps_its_first_bytes() -> None:
    """Offset and length of an over-long stretch are exact; of its bytes the first KEPT_BYTES are kept."""
    limits = ReadLimits(max_event_bytes=100_000)
    line = b'{"a":"' + b"b" * 1_000_000 + b'"}'
    whole = b"c" * 100_000
    result = frame(A + b"\n" + line + A + whole + b"\n" + A, cuts=range(0, 1_000_000, 30_000), limits=limits)
    assert result.events == [A, A, A]
    assert result.stretches[0] == BadStretch(
        8, len(line), "longer than max_event_bytes, 100000 (byte 100008)", line[:KEPT_BYTES]
    )
    assert result.stretches[1].data == whole


@pytest.mark.parametrize("max_depth", [1, 2, 3, 511, 1023, 1024, 1025, 3000])
def test_depth_is_limited_exactly(max_depth: int) -> None:
    """An event of max_depth levels passes, one of a level more does not: objects, lists, and both."""
    limits = ReadLimits(max_depth=max_depth)
    for opening, innermost, closing in ((b'{"a":', b"{}", b"}"), (b"[", b"[]", b"]"), (b'[0,{"a":', b"[]", b"}]")):
        levels = opening.count(b"[") + opening.count(b"{")
        for depth in (max_depth, max_depth + 1):
            around, rest = divmod(depth - 2, levels)
            if around < 0 or rest:
                continue
            event = b'{"e":' + opening * around + innermost + closing * around + b"}"
            result = frame(event + b"\n" + event + A, limits=limits)
            assert result.events == ([event, event, A] if depth == max_depth else [A]), (depth, opening)
            assert len(result.stretches) == (0 if depth == max_depth else 2)


def test_many_brackets_are_not_depth() -> None:
    """An event with more brackets than max_depth, but not inside each other, passes."""
    event = b'{"l":[' + b",".join([b'{"a":[]}'] * 1000) + b"]}"
    assert frame(event + b"\n" + event).events == [event, event]
    assert frame(event, limits=ReadLimits(max_depth=4)).events == [event]
    assert frame(event, limits=ReadLimits(max_depth=3)).events == []


def test_two_objects_on_a_line_are_never_taken_for_one() -> None:
    """The check of depth puts brackets around a line; what is only JSON inside of these is still refused."""
    pair = b'{"a":[[]]},{"b":[[]]}'
    assert frame(pair, limits=ReadLimits(max_depth=3)).events == [b'{"a":[[]]}', b'{"b":[[]]}']


def test_unpacked_limit_of_a_file() -> None:
    """A file may unpack to max_unpacked_ratio times its size, a small one to 16 MiB, none beyond max_unpacked_bytes."""
    limits = ReadLimits()
    assert limits.unpacked_bytes(100) == 16 * MIB
    assert limits.unpacked_bytes(MIB) == 1000 * MIB
    assert limits.unpacked_bytes(GIB) == 64 * GIB
    assert ReadLimits(max_unpacked_bytes=MIB).unpacked_bytes(100) == MIB


MEASURE = """
import resource, sys
from export_pipeline.source.checker import Checker
from export_pipeline.source.framing import Framer
from export_pipeline.source.file import MIB, ReadLimits
from export_pipeline.source.framed import BadStretch
from export_pipeline_tests.source.framing_support import events_of

limits = ReadLimits()
framer = Framer(limits, Checker(limits))
framer.feed(b'{"a":1}')
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin, piece, count, end = eval(sys.argv[1])
piece *= MIB // len(piece)
framed = framer.feed(begin)
for _ in range(count):
    framed += framer.feed(piece)
framed += framer.feed(end) + framer.finish()
events = sum(len(events_of(part)) for part in framed if not isinstance(part, BadStretch))
stretches = [part.length for part in framed if isinstance(part, BadStretch)]
print(events, len(stretches), sum(stretches), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("begin", "piece", "end"),
    [
        pytest.param(b'{"s":"', b"b", b'"}', id="a string"),
        pytest.param(b'{"s":"', b"\\n", b'"}', id="a string of escapes", marks=pytest.mark.thorough),
        pytest.param(b'{"l":[0', b",1", b"]}", id="a list", marks=pytest.mark.thorough),
        pytest.param(b"x", b"y", b"", id="garbage", marks=pytest.mark.thorough),
        pytest.param(b'{"l":' + b"[" * 9, b"[", b"", id="brackets"),
    ],
)
def test_an_endless_line_takes_no_more_memory_than_a_few_events(begin: bytes, piece: bytes, end: bytes) -> None:
    """A line of 64 MiB is passed over in bounded memory, its length is exact, and the line behind it is read."""
    given = repr((begin, piece, 64, end + b'\n{"a":1}\n'))
    command = [sys.executable, "-c", MEASURE, given]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    events, stretches, length, growth_mib = map(int, done.stdout.split())
    assert (events, stretches, length) == (2, 1, len(begin) + 64 * MIB + len(end))
    assert growth_mib < 100
