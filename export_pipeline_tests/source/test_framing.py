"""What is an event, what separates events, and what happens to the rest: the rules one by one."""

import json

import pytest

from export_pipeline.source.checker import Checker
from export_pipeline.source.framed import BadStretch
from export_pipeline_tests.source.framing_support import DEFAULT, frame, frame_every_way

A, B, C = b'{"a":1}', b'{"b":"x}{y"}', b'{ "c" : [ {} , { "d" : null } ] }'


@pytest.mark.parametrize(
    ("data", "events"),
    [
        pytest.param(b"\n".join([A, B, C, b""]), [A, B, C], id="newline-delimited"),
        pytest.param(b"\n".join([A, B, C]), [A, B, C], id="last line without a newline"),
        pytest.param(b"\r\n".join([A, B, C, b""]), [A, B, C], id="CRLF"),
        pytest.param(b"\n\n\r\n" + A + b"\n\n \n" + B + b"\n\n", [A, B], id="blank lines"),
        pytest.param(b"  " + A + b"\t \n\t" + B + b"  ", [A, B], id="white space around"),
        pytest.param(b"\xef\xbb\xbf" + A + b"\n" + B, [A, B], id="byte order mark"),
        pytest.param(A + b"\n\xef\xbb\xbf" + B, [A, B], id="byte order mark of an appended file"),
        pytest.param(A + B + C, [A, B, C], id="concatenated"),
        pytest.param(A + b" " + B + b"\t" + C, [A, B, C], id="concatenated with white space"),
        pytest.param(A + b"\r" + B + b"\r" + C, [A, B, C], id="separated by CR alone"),
        pytest.param(A + B + b"\n" + C + b"\n" + A + B, [A, B, C, A, B], id="newline-delimited and concatenated"),
        pytest.param(b"[" + A + b"," + B + b"," + C + b"]", [A, B, C], id="array"),
        pytest.param(b" [\r\n  " + A + b" ,\r\n  " + B + b"\r\n]\r\n", [A, B], id="array over several lines"),
        pytest.param(b"[\n" + A + b"\n," + B + b"\n]", [A, B], id="array with commas in front"),
        pytest.param(b"[" + A + b"][" + B + b"]\n" + C + b"[]" + A, [A, B, C, A], id="arrays among events"),
        pytest.param(b'[{"q":[{"r":1},{"s":2}]},{"t":3}]', [b'{"q":[{"r":1},{"s":2}]}', b'{"t":3}'], id="nested lists"),
        pytest.param(b"[]", [], id="empty array"),
        pytest.param(b"\x1e" + A + b"\n\x1e" + B + b"\n\x1e" + C + b"\n", [A, B, C], id="text sequence, RFC 7464"),
        pytest.param(b"\x1e" + A + b"\x1e\x1e" + B, [A, B], id="text sequence without line feeds"),
        pytest.param(A + b",\n" + B + b",\n" + C, [A, B, C], id="commas behind lines"),
        pytest.param(A + b"," + B + b"," + C + b",", [A, B, C], id="commas between"),
        pytest.param((b"[" + A + b"]\n") * 3, [A, A, A], id="an array on each line"),
        pytest.param(b"", [], id="empty file"),
        pytest.param(b" \r\n\t\xef\xbb\xbf\n", [], id="nothing but separators"),
    ],
)
def test_finds_every_event(data: bytes, events: list[bytes]) -> None:
    """Events keep their bytes, whatever separates them and however the file is cut into pieces."""
    result = frame_every_way(data)
    assert (result.events, result.stretches) == (events, [])


class NotingChecker(Checker):
    """Notes what does not take the fastest way."""

    def __init__(self) -> None:
        super().__init__(DEFAULT)
        self.seen: list[bytes] = []

    def refused(self, parts: list[bytes], *, around: bytes) -> list[int]:
        self.seen += filter(None, parts)
        return super().refused(parts, around=around)


@pytest.mark.parametrize("portion_bytes", [40, 10_000])
def test_lines_of_events_take_the_fastest_way(portion_bytes: int) -> None:
    """Whole lines are not copied out of their portion, however large it is; only a line across two pieces is."""
    lines = b"\n".join([A, B, C, b""]) * 50
    for cuts, seen in (([], []), ([len(lines) // 2], []), ([len(A) + 3, len(lines) - 5], [B, C])):
        checker = NotingChecker()
        assert frame(lines, cuts=cuts, portion_bytes=portion_bytes, checker=checker).events == [A, B, C] * 50
        assert checker.seen == seen


def test_pretty_printed_events_become_one_line() -> None:
    """White space between tokens goes, and no token changes: numbers, escapes, duplicate names and their order stay."""
    pretty = (
        b'{\n  "b": 1.50E+2,\r\n\t"a" : "two  spaces \\u00e9 \\" \\\\",\n'
        b' "a": [ -0, 1e400, {} ],\n "" : { "x y" : true }\n}'
    )
    line = b'{"b":1.50E+2,"a":"two  spaces \\u00e9 \\" \\\\","a":[-0,1e400,{}],"":{"x y":true}}'
    result = frame_every_way(A + b"\n" + pretty + b"\n" + pretty + A)
    assert result.events == [A, line, line, A]
    assert result.tally.events_bytes == 2 * len(A) + 2 * len(pretty)


def test_an_event_with_a_carriage_return_inside_becomes_one_line() -> None:
    """A CR between tokens ends a line for many readers of NDJSON, so it goes as a line feed does."""
    assert frame_every_way(b'{"a":\r1}\r\n' + A).events == [A, A]
    assert frame_every_way(B + b'\n{"a":\r1}\n' + B + b"\n").events == [B, A, B]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b'{"n":12345678901234567890123456789012345678901234567890}', id="integer beyond 64 bits"),
        pytest.param(b'{"n":%s}' % (b"9" * 5000), id="integer beyond Python's limit of digits"),
        pytest.param(b'{"n":-18446744073709551616,"m":1e999,"k":-0.0,"l":1E-999}', id="numbers beyond doubles"),
        pytest.param(b'{"s":"\\ud800"}', id="lone surrogate escape"),
        pytest.param(b'{"s":"\\udc00\\ud800"}', id="surrogate escapes in the wrong order"),
        pytest.param(b'{"s":"\\u0000"}', id="escaped NUL"),
        pytest.param(b'{"s":"\x7f"}', id="DEL, which is no control character to RFC 8259"),
        pytest.param('{"s":"ü\u2028\u2029\ufeff😀"}'.encode(), id="any Unicode"),
        pytest.param(b'{"a":1,"a":{"a":2},"a":1}', id="duplicate names"),
        pytest.param(b'{"":""}', id="empty name"),
        pytest.param(b"{}", id="empty object"),
        pytest.param(b'{"a":' * 511 + b"{}" + b"}" * 511, id="objects of depth 512"),
        pytest.param(b'{"a":' + b"[" * 511 + b"]" * 511 + b"}", id="lists of depth 512"),
        pytest.param(b'{"a":"}{","b":"{\\"c\\":1}{\\"d\\":2}","e":"]},{["}', id="brackets and quotes in strings"),
    ],
)
def test_what_rfc_8259_allows_passes_unchanged(event: bytes) -> None:
    """Any JSON object passes with its bytes, alone, beside others, and without a newline between."""
    assert frame(event).events == [event]
    assert frame(event, cuts=range(0, len(event), 7)).events == [event]
    assert frame(A + event + B + b"\n" + event + b"\n").events == [A, event, B, event]
    assert frame(b"[" + event + b"," + event + b"]").events == [event, event]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1", "a number, not an object"),
        (b"-1.5e3", "a number, not an object"),
        (b'"text"', "a string, not an object"),
        (b'"{}"', "a string, not an object"),
        (b"true", "a boolean, not an object"),
        (b"null", "null, not an object"),
        (b"[1,2,3]", "an array, not an object"),
        (b'[1,{"a":1}]', "an array, not an object"),
        (b'[["a"],[{"b":1}]]', "an array, not an object"),
        (b"NaN", "NaN is not a JSON value"),
        (b'{"a":NaN}', "NaN is not a JSON value"),
        (b'{"a":Infinity}', "Infinity is not a JSON value"),
        (b'{"a":-Infinity}', "-Infinity is not a JSON value"),
        (b'{"a":01}', "',' or '}' is missing"),
        (b'{"a":1.}', "',' or '}' is missing"),
        (b'{"a":.5}', "not a JSON value"),
        (b'{"a":+1}', "not a JSON value"),
        (b'{"a":0x10}', "',' or '}' is missing"),
        (b'{"a":True}', "True is not a JSON value"),
        (b"{'a':1}", "single quotes are not JSON: a name in double quotes is missing"),
        (b"{a:1}", "a name in double quotes is missing"),
        (b'{"a" 1}', "':' is missing"),
        (b'{"a":1,}', "a comma before '}': a name in double quotes is missing"),
        (b'{"a":[1,]}', "a comma before ']': not a JSON value"),
        (b'{"a":[1 2]}', "',' or ']' is missing"),
        (b'{"a":1 "b":2}', "',' or '}' is missing"),
        (b'{"a":1]', "',' or '}' is missing"),
        (b'{"a":"\t"}', "a control character in a string must be escaped (\\u0009)"),
        (b'{"a":"\0"}', "a control character in a string must be escaped (\\u0000)"),
        (b'{"a":"\r"}', "line ends inside a string (truncated record?)"),
        (b'{"a":"\\x41"}', "invalid escape in a string"),
        (b'{"a":"\\u12g4"}', "invalid escape in a string"),
        (b'{"a":"\\\'"}', "invalid escape in a string"),
        (b'{"a":"\xff"}', "not valid UTF-8"),
        (b'{"a":"\xc0\xaf"}', "not valid UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"a":"\xf4\x90\x80\x80"}', "not valid UTF-8"),
        (b'{"a":"\xe2\x82"}', "not valid UTF-8"),
        (b'{"\xe9":1}', "not valid UTF-8"),
        (b'{"a":1}\0', "not a JSON value"),
        (b"\0", "not a JSON value"),
        (b"garbage", "not a JSON value"),
        (b"a,b,c", "not a JSON value"),
        (b'{"a":1', "line ends inside an object or array (truncated record?)"),
        (b'{"a":"b', "line ends inside a string (truncated record?)"),
        (b"{", "line ends inside an object or array (truncated record?)"),
        (b"}", "not a JSON value"),
        (b'\xfe\xff\0{\0"', "not a JSON value"),
        (b'{"a":' * 513 + b"1" + b"}" * 513, "nested deeper than 512 levels"),
        (b'{"a":' + b"[" * 512 + b"]" * 512 + b"}", "nested deeper than 512 levels"),
    ],
)
def test_what_is_no_event_is_set_aside(line: bytes, reason: str) -> None:
    """A line that is not a JSON object is one malformed record with exactly its bytes; events around it are found."""
    result = frame(A + b"\n" + line + b"\n" + B + b"\n", cuts=range(0, 40, 3))
    if line.startswith(A):
        assert result.events == [A, A, B]
        line = line[len(A) :]
    else:
        assert result.events == [A, B]
    assert result.bad == [line]
    assert result.stretches[0].reason.startswith(reason)


def test_a_bad_stretch_says_where_it_lies_and_where_it_goes_wrong() -> None:
    """Offset and length are those in the unpacked file, and the reason names the byte."""
    assert frame_every_way(A + b'\r\n{"x": nope}\r\n' + A).stretches == [
        BadStretch(offset=9, length=11, reason="not a JSON value (byte 15)", data=b'{"x": nope}')
    ]
    assert frame_every_way((A + b"\n") * 2 + b'{"x": nope}\n' + A).stretches == [
        BadStretch(offset=16, length=11, reason="not a JSON value (byte 22)", data=b'{"x": nope}')
    ]


@pytest.mark.parametrize(
    ("data", "events", "bad"),
    [
        pytest.param(A + b"{bad}" + B, [A, B], [b"{bad}"], id="broken, brackets sound"),
        pytest.param(A + b"garbage" + B, [A, B], [b"garbage"], id="garbage between"),
        pytest.param(A + b"{bad}{worse}xx" + B, [A, B], [b"{bad}{worse}xx"], id="one stretch up to the next event"),
        pytest.param(b'{"n":{"q":2},"d":tru}' + A, [A], [b'{"n":{"q":2},"d":tru}'], id="parts of it are no events"),
        pytest.param(b'{"s":"\xff","n":{"q":2}}' + A, [A], [b'{"s":"\xff","n":{"q":2}}'], id="UTF-8 broken inside"),
        pytest.param(b'{"s":"cut' + A, [A], [b'{"s":"cut'], id="cut inside a string"),
        pytest.param(b'{"s":"cut\\' + A + B, [A, B], [b'{"s":"cut\\'], id="cut inside an escape"),
        pytest.param(b'{"s":1' + A, [A], [b'{"s":1'], id="cut behind a value"),
        pytest.param(b'{"s":1,' + A, [A], [b'{"s":1,'], id="cut behind a comma"),
        pytest.param(b'{"s' + A, [A], [b'{"s'], id="cut inside a name"),
        pytest.param(b"{" + A, [A], [b"{"], id="cut behind the bracket"),
        pytest.param(b'{"s":' + A + B, [B], [b'{"s":' + A], id="cut behind a colon: what follows may be the value"),
        pytest.param(A + b"," + B + b",", [A, B], [], id="commas without an array"),
        pytest.param(b"2026-11-23 INFO: " + A, [A], [b"2026-11-23 INFO:"], id="a log line that ends in an event"),
        pytest.param(b'"n": ' + A + b"\n" + B, [B], [b'"n": ' + A], id="a member alone"),
        pytest.param(b'b","n":[' + A + b"," + A + b"]}" + B, [B], [b'b","n":[' + A + b"," + A + b"]}"], id="head lost"),
        pytest.param(b"x{}{ }y\n" + A, [A], [b"x{}{ }y"], id="empty objects in garbage"),
    ],
)
def test_reading_goes_on_at_the_next_event(data: bytes, events: list[bytes], bad: list[bytes]) -> None:
    """After a malformed record the next object that parses is an event, unless it is a part of something broken."""
    result = frame_every_way(data)
    assert (result.events, result.bad) == (events, bad)


@pytest.mark.parametrize(
    ("data", "events", "bad"),
    [
        pytest.param(b'{"s":"cut\n' + A + b"\n", [A], [b'{"s":"cut'], id="cut inside a string"),
        pytest.param(b'{"s":\n' + A + b"\n" + B, [A, B], [b'{"s":'], id="cut behind a colon"),
        pytest.param(b'{"s":[1,\n' + A + b"\n" + B, [A, B], [b'{"s":[1,'], id="cut inside a list"),
        pytest.param(
            b'{"s":{"t":[{"u":1}\n' + A + b"\n", [A], [b'{"s":{"t":[{"u":1}'], id="cut behind a nested object"
        ),
        pytest.param(b'x\n{"y\n\nz\n' + A, [A], [b"x", b'{"y', b"z"], id="every bad line is a stretch of its own"),
        pytest.param(
            b'{\n"s": tru,\n"n": {"q": 1}\n}\n' + A, [A], [b'{\n"s": tru,\n"n": {"q": 1}\n}'], id="pretty-printed"
        ),
    ],
)
def test_reading_goes_on_at_the_next_line(data: bytes, events: list[bytes], bad: list[bytes]) -> None:
    """A line that is broken costs no line behind it."""
    result = frame_every_way(data)
    assert (result.events, result.bad) == (events, bad)


@pytest.mark.parametrize(
    ("data", "events", "bad"),
    [
        pytest.param(b"[" + A + b",{bad}," + B + b"]", [A, B], [b"{bad}"], id="broken element"),
        pytest.param(b"[{bad}," + B + b"]", [B], [b"{bad}"], id="first element broken"),
        pytest.param(
            b"[" + A + b',-12.5e+3,"x",[1,{"y":2}],null,' + B + b"]",
            [A, B],
            [b"-12.5e+3", b'"x"', b'[1,{"y":2}]', b"null"],
            id="others",
        ),
        pytest.param(b"[" + A + b',{"s":"cut,\n' + B + b"]\n" + C, [A, B, C], [b'{"s":"cut,'], id="cut element"),
        pytest.param(b"[" + A + b"," + B, [A, B], [b""], id="not closed"),
        pytest.param(b"[" + A + b",\n" + B + b",\n", [A, B], [], id="goes on in another file"),
        pytest.param(A + b",\n" + B + b"\n]\n", [A, B], [], id="began in another file"),
        pytest.param(b"," + A + b"\n," + B + b"]", [A, B], [], id="goes on in another file, commas in front"),
        pytest.param(b"[" + A + b"]]\n" + B + b"\n]", [A, B], [], id="closed once too often"),
        pytest.param(b'1}],{"q":2},{"r":3}]}\n' + A, [A], [b'1}],{"q":2},{"r":3}]}'], id="lists of a cut event"),
        pytest.param(b'],{"q":2}]}\n' + A, [A], [b'],{"q":2}]}'], id="a nested list of a cut event"),
        pytest.param(b"[" + A + b',{"s":', [A], [b'{"s":'], id="cut inside an element"),
        pytest.param(
            b"[\n" + A + b",\nbad\n]\n,\nbad,\n" + B + b",\n" + C,
            [A, B, C],
            [b"bad", b"bad,"],
            id="commas behind the end",
        ),
    ],
)
def test_an_array_gives_the_events_that_it_holds(data: bytes, events: list[bytes], bad: list[bytes]) -> None:
    """Each element that is an object is an event; others are set aside alone, and so is word of a missing end."""
    result = frame_every_way(data)
    assert (result.events, result.bad) == (events, bad)


def test_a_cut_event_never_costs_the_line_behind_it() -> None:
    """Wherever an event is truncated, it is one malformed record, and the next line is read."""
    event = b'{"t":"a","l":[{"u":"https://x/{}"},{"s":"say \\"hi\\" {x}"}],"m":{"k":1.5,"d":true},"e":["a",{"f":{}}]}'
    for cut in range(1, len(event)):
        result = frame(A + b"\n" + event[:cut] + b"\n" + B + b"\n" + C)
        assert (result.events, result.bad) == ([A, B, C], [event[:cut].rstrip()]), event[:cut]


def test_a_cut_event_among_concatenated_ones_gives_no_part_of_itself() -> None:
    """Wherever an event is cut off, the event after the next is found, and nothing that was none."""
    event = b'{"t":"a","l":[{"u":"https://x/{}"},{"s":"say \\"hi\\" {x}"}],"m":{"k":1.5,"d":true},"e":["a",{"f":{}}]}'
    doubtful = 0
    for cut in range(1, len(event)):
        events = frame(A + event[:cut] + B + C).events
        if events == [A, C]:
            # A value may follow here: the next event cannot be told from it.
            assert event[:cut].endswith((b":", b"[", b",")), event[:cut]
            doubtful += 1
        else:
            assert events == [A, B, C], event[:cut]
    assert doubtful == 13


def test_a_file_of_a_million_brackets_costs_no_stack() -> None:
    """Nesting beyond any recursion limit is an ordinary malformed record."""
    data = b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}"
    result = frame(data + b"\n" + A)
    assert (result.events, result.bad) == ([A], [data])


def test_event_bytes_never_hold_a_line_feed() -> None:
    """What framing yields can be joined by line feeds and split again."""
    data = json.dumps({"a": {"b": [1, {"c": "x\ny"}]}}, indent=1).encode()
    (event,) = frame(data).events
    assert b"\n" not in event
    assert json.loads(event) == json.loads(data)
