"""The fast checkers vouch for nothing that the exact reader would refuse."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipeline.source.checker import Checker
from export_pipeline.source.file import MIB, ReadLimits
from export_pipeline.source.rfc8259 import read_object
from export_pipeline_tests.source.test_rfc8259 import nearly_objects

LIMITS = ReadLimits(max_event_bytes=60, max_depth=4)


def exact(text: bytes, limits: ReadLimits) -> bool:
    """Whether *text* is one event and nothing else."""
    return read_object(text, 0, len(text), max_depth=limits.max_depth) == len(text) <= limits.max_event_bytes


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(nearly_objects().map(lambda text: text.replace(b"\n", b" ")), max_size=4),
    st.sampled_from([b" \t\r", b" \t\r,"]),
)
def test_vouches_only_for_events(lines: list[bytes], around: bytes) -> None:
    """Among lines of all kinds, those it does not refuse are empty or events, trimmed."""
    for limits in (ReadLimits(), LIMITS):
        parts = list(lines)
        refused = Checker(limits).refused(parts, around=around)
        assert refused == sorted(set(refused))
        for n, (part, line) in enumerate(zip(parts, lines, strict=True)):
            if n not in refused:
                assert part == line.strip(around)
                assert part == b"" or exact(part, limits)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nearly_objects().map(lambda text: text.replace(b"\n", b" ")), min_size=1, max_size=4))
def test_vouches_for_lines_of_events_only(lines: list[bytes]) -> None:
    """Where it vouches for lines, the exact reader takes each for one event, blanks around it not allowed."""
    for limits in (ReadLimits(), LIMITS):
        if Checker(limits).vouches_for([line + b"\n" for line in lines]):
            assert all(exact(line, limits) for line in lines)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nearly_objects(), st.binary(max_size=5))
def test_finds_the_end_of_events_only(text: bytes, rest: bytes) -> None:
    """Where it finds the end of an object, the exact reader finds it as well."""
    for limits in (ReadLimits(), LIMITS):
        whole = text + rest
        end = Checker(limits).object_end(whole, 0, len(whole))
        if end >= 0:
            assert read_object(whole, 0, len(whole), max_depth=limits.max_depth) == end


def test_ordinary_lines_are_not_refused() -> None:
    """The fast way is taken: nothing of an ordinary file is left to the slow reader."""
    lines = [b'{"a":1}', b"", b'  {"b":"\xc3\xbc"} \r', b"{}"] * 50
    assert Checker(ReadLimits()).refused(lines, around=b" \t\r") == []
    assert lines[:4] == [b'{"a":1}', b"", b'{"b":"\xc3\xbc"}', b"{}"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" {}",
        b"{} ",
        b"{",
        b"}",
        b"{}{}",
        b"{},{}",
        b'{"a":}',
        b'["a"]',
        b'{"a":[[[[]]]]}',
        b'{"a":"%s"}' % (b"x" * 60),
    ],
)
def test_one_line_that_is_no_event_is_enough(line: bytes) -> None:
    """It confirms ordinary lines, and none of them if one is not an event, too deep or too long."""
    checker = Checker(LIMITS)
    ordinary = [b'{"a":1}\n', b"{}\n", b'{"a":[[{}]]}\n']
    assert checker.vouches_for(ordinary)
    assert not checker.vouches_for([*ordinary, line + b"\n", *ordinary])


@pytest.mark.parametrize(
    "line", [b'{"n":123456789012345678901234567890}', b'{"s":"\\ud800"}', b'{"n":1e999}', b'{"s":"%s"}' % (b"x" * MIB)]
)
def test_what_simdjson_cannot_read_is_left_to_others(line: bytes) -> None:
    """simdjson refuses some events; only the exact reader may call them none."""
    checker = Checker(ReadLimits())
    assert checker.refused([b"{}", line, b"{}", line], around=b"") == [1, 3]
    assert exact(line, ReadLimits())


def test_numbers_beyond_64_bits_take_the_second_fastest_way() -> None:
    """Python's scanner takes what simdjson refuses for its numbers, whatever Python's limit of digits is."""
    text = b'{"n":%s,"m":-1e999}' % (b"9" * 10_000)
    assert Checker(ReadLimits()).object_end(text + b"rest", 0, len(text) + 4) == len(text)


def test_a_refused_line_leaves_the_parser_usable() -> None:
    """Errors of every kind, one after the other, do not keep the checker from the lines behind."""
    bad = [
        b'{"a":}',
        b'{"a":"\xff"}',
        b'{"a":"\x01"}',
        b'{"a":1}}',
        b'{"a":%s}' % (b"9" * 99),
        b"{" * 2000 + b"}" * 2000,
    ]
    lines = [line for one in bad for line in (one, b'{"a":[1,{}]}')]
    assert Checker(ReadLimits()).refused(lines, around=b"") == list(range(0, len(lines), 2))
