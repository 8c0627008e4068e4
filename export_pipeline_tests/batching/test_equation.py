"""Bytes in = bytes in events + separators + quarantine, and events framed = batched + quarantined: for any files."""

import json
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipeline.batching.cutter import BatchLimits
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.source.file import ReadLimits
from export_pipeline_tests.batching.test_reading import Manifest
from export_pipeline_tests.source.framing_support import RefusingChecker, frame
from export_pipeline_tests.source.packing import PACKERS
from export_pipeline_tests.source.test_rfc8259 import OBJECTS

EXAMPLES = settings().max_examples
BLANKS = st.sampled_from([b"", b"", b"", b" ", b"\t", b"\r", b" \r "])
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n"])
# Nothing here may lend itself to a part of the event behind it.
GARBAGE = st.sampled_from([b"garbage", b"-", b"1e", b"\xff\xfe", b"}", b"+", b"nul", b"\\", b"==", b"\x00", b"<a/>"])
EVENTS = [
    b'{"a":1}',
    b"{}",
    b'{"a":{"b":[1,{"c":2}]}}',
    b'{"x":"}{"}',
    b'{"x":"a\\"{"}',
    b'{\n"a": 1\n}',
    b'{ "a" : 1 }',
]
ODD_EVENTS = [
    b'{"n":12345678901234567890123}',
    b'{"l":"\\ud800"}',
    b'{"d":[[[[1]]]]}',
    b'{"\xc3\xbc":"\xf0\x9f\x98\x80"}',
]
BETWEEN = [b"\n", b"\n", b"\r\n", b" ", b"\xef\xbb\xbf", b"[", b"]", b","]
PARTS = [b":", b"{", b"}", b'"', b'"k":', b"x", b"tru", b"1", b"-", b"\\", b"\xef", b"\xff", b"\x00"]
BEGINNINGS = [b'{"a":"tr', b'{"a":[', b'[{"q":1},', b'{"a":1,', b'{"a":']
TOKENS = st.sampled_from([*EVENTS, *ODD_EVENTS, *BETWEEN, *PARTS, *BEGINNINGS])


@dataclass
class Content:
    """A file whose content is known.

    Attributes:
        data: as it is unpacked.
        events: the lines it must become.
        events_bytes: how many bytes of it they are.
        bad: the stretches it must leave.
    """

    data: bytes
    events: list[bytes]
    events_bytes: int
    bad: list[bytes]


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Lines of events and garbage, in any order, with or without white space between; the last one may lack its end.

    The first line is an event: what begins with bytes that are no text is refused as a file.
    """
    content = Content(b"{}\n", [b"{}"], 2, [])
    for _ in range(draw(st.integers(0, 6))):
        stretch = b""
        for _ in range(draw(st.integers(0, 4))):
            blank = draw(BLANKS)
            if draw(st.integers(0, 3)):
                value, ascii_only = draw(OBJECTS), draw(st.booleans())
                line = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only).encode("utf-8", "replace")
                indent = draw(st.sampled_from([None, None, 0, 2]))
                text = line
                if indent is not None and value:
                    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
                # An empty object does not end a malformed record.
                if line == b"{}" and stretch:
                    continue
                content.data += blank + text
                content.events.append(line)
                content.events_bytes += len(text)
                content.bad += [stretch] if stretch else []
                stretch = b""
            else:
                garbage = draw(GARBAGE)
                content.data += blank + garbage
                stretch = stretch + blank + garbage if stretch else garbage
        content.bad += [stretch] if stretch else []
        content.data += draw(LINE_ENDS)
    if draw(st.booleans()):
        content.data = content.data.rstrip(b" \r\n")
    return content


@settings(max_examples=EXAMPLES + EXAMPLES // 2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(contents(), st.sampled_from(sorted(PACKERS))), max_size=4),
    st.integers(1, 5),
    st.integers(1, 200),
    st.integers(1, 64),
)
def test_known_files_give_what_they_hold(
    files: list[tuple[Content, str]], max_events: int, max_bytes: int, chunk_bytes: int
) -> None:
    """Any files, in any compression and any pieces: all events come out in order, all else is in the quarantine."""
    manifest = Manifest(*(PACKERS[packer](content.data) for content, packer in files))
    reading = manifest.read(chunk_bytes=chunk_bytes, limits=BatchLimits(max_events=max_events, max_bytes=max_bytes))
    assert manifest.data == b"".join(line + b"\n" for content, _ in files for line in content.events)
    kept = [record.data for _, record in Quarantine(manifest.objects).records()]
    assert kept == [stretch for content, _ in files for stretch in content.bad]
    for found, (content, _) in zip(reading.files, files, strict=True):
        assert found.bytes_unpacked == len(content.data)
        assert found.bytes_events == content.events_bytes
        assert found.bytes_quarantined == sum(map(len, content.bad))
        assert found.bytes_unpacked == found.bytes_events + found.bytes_separators + found.bytes_quarantined
    assert reading.events_framed == reading.events_batched + reading.events_quarantined
    assert reading.events_batched == sum(batch.events for batch in reading.batches)
    assert reading.events_batched == sum(data.count(b"\n") for _, data in manifest.batches)
    assert reading.events_quarantined == len(kept)


@settings(max_examples=5 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(TOKENS, max_size=14).map(b"".join),
    st.lists(st.integers(0, 120), max_size=6),
    st.integers(1, 45),
    st.integers(1, 6),
    st.integers(1, 60),
)
def test_any_bytes_are_framed_the_same_way(
    data: bytes, cuts: list[int], max_event_bytes: int, max_depth: int, portion_bytes: int
) -> None:
    """Whatever bytes and limits, pieces, portions and shortcuts change nothing, and what comes out are events."""
    for limits in (
        ReadLimits(),
        ReadLimits(max_event_bytes=max_event_bytes),
        ReadLimits(max_event_bytes=max_event_bytes, max_depth=max_depth),
    ):
        whole = frame(data, limits=limits)
        within = [cut for cut in cuts if cut < len(data)]
        assert frame(data, cuts=within, limits=limits) == whole
        assert frame(data, portion_bytes=portion_bytes, limits=limits) == whole
        assert frame(data, cuts=within, portion_bytes=portion_bytes, limits=limits) == whole
        assert frame(data, cuts=range(1, len(data)), limits=limits) == whole
        assert frame(data, limits=limits, checker=RefusingChecker(limits)) == whole
        for event in whole.events:
            assert isinstance(json.loads(event), dict)
            assert not {*b"\r\n"} & {*event}
            assert len(event) <= limits.max_event_bytes
