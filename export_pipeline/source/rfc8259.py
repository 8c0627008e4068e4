"""JSON exactly as RFC 8259 defines it: the slow reader, which has the final say on what is an event.

It follows the text with a handful of regular expressions and its own stack, so that neither the size of a number nor
the depth of nesting hits one of Python's limits, and it reports where and why a text stops being JSON. Every repetition
of a group is bounded, because ``re`` keeps memory for each iteration of one.
"""

import codecs
import re
from typing import NamedTuple

_BLANK = rb"[ \t\r\n]*"
_IN_STRING = rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*){0,32}'
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_PLAIN_STRING = rb'"[^"\\\x00-\x1f]*"'
_SCALAR = rb"(?:" + _PLAIN_STRING + rb"|" + _NUMBER + rb"|true|false|null)"
_NAME = _PLAIN_STRING + _BLANK + rb":" + _BLANK
_COMMA = _BLANK + rb"," + _BLANK

_blank = re.compile(_BLANK)
_comma = re.compile(_COMMA)
_colon = re.compile(_BLANK + rb":" + _BLANK)
_in_string = re.compile(_IN_STRING)
_scalar = re.compile(_SCALAR)
_name = re.compile(_NAME)
_simple_members = re.compile(rb"(?:" + _NAME + _SCALAR + _COMMA + rb"){1,32}")
_simple_items = re.compile(rb"(?:" + _SCALAR + _COMMA + rb"){1,32}")
# Prefixes of tokens that the following bytes may complete.
_partial = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?|-|\.|[eE][+-]?|t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?")

_QUOTE, _BACKSLASH, _OBJECT, _ARRAY = b'"\\{['
_CLOSER = {_OBJECT: ord("}"), _ARRAY: ord("]")}
_OPENERS, _CLOSERS, _LINE_ENDS = frozenset(b"{["), frozenset(b"}]"), frozenset(b"\r\n")
_MISSING = ("is missing", "not a JSON value")
_APOSTROPHE = ord("'")
# Constants of other languages.
_FOREIGN = (b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"True", b"False", b"None", b"undefined")
_not_json = re.compile(rb"(?:" + rb"|".join(_FOREIGN) + rb")\b")
_LONGEST_WORD_BYTES = max(map(len, _FOREIGN))
_partly_foreign = re.compile(rb"|".join(word[:length] for word in _FOREIGN for length in range(1, len(word) + 1)))
_LOOK_BACK_BYTES = 64
_UTF8_STEP_BYTES = 64 * 1024


class Fault(NamedTuple):
    """Why there is no JSON value at a position.

    Attributes:
        at: the first byte that cannot belong to one.
        reason: in words.
        cut: nothing is wrong so far; the bytes end before the value does.
        read_to: how far had to be read to find out, if further than *at*.
    """

    at: int
    reason: str
    cut: bool = False
    read_to: int = -1

    @property
    def reached(self) -> int:
        """Position after the last byte that was examined."""
        return max(self.at, self.read_to)


def read_value(text: bytes, start: int, stop: int, *, max_depth: int) -> int | Fault:
    """The end of the JSON value that begins at *start*, as far as ``text[:stop]`` goes.

    Bytes from 0x80 on are accepted unchecked inside strings: :func:`utf8_fault` validates them.

    Args:
        max_depth: most brackets open at once; ``{}`` has depth 1.
    """
    found = _read_value(text, start, stop, max_depth)
    if isinstance(found, Fault) and not found.cut and found.reason.endswith(_MISSING):
        return _explained(text, start, stop, found)
    return found


def _read_value(text: bytes, start: int, stop: int, max_depth: int) -> int | Fault:
    nesting = bytearray()
    found: int | Fault = start
    while not isinstance(found, Fault):
        bracket = _peek(text, found, stop)
        if bracket in _CLOSER:
            if len(nesting) == max_depth:
                return Fault(found, f"nested deeper than {max_depth} levels (max_depth)")
            nesting.append(bracket)
            at = _skip(_blank, text, found + 1, stop)
            if _peek(text, at, stop) != _CLOSER[bracket]:
                found = _value_inside(text, at, stop, bracket)
                continue
        else:
            scalar = _scalar_end(text, found, stop)
            if isinstance(scalar, Fault):
                return scalar
            at = scalar
        at = _leave_brackets(text, at, stop, nesting)
        if not nesting:
            return at
        found = _next_value(text, at, stop, nesting[-1])
    return found


def read_object(text: bytes, start: int, stop: int, *, max_depth: int) -> int | Fault:
    """The end of the JSON object in valid UTF-8 that begins at *start*, as far as ``text[:stop]`` goes."""
    if _peek(text, start, stop) != _OBJECT:
        return _fault(text, start, stop, "not a JSON object")
    end = read_value(text, start, stop, max_depth=max_depth)
    if isinstance(end, Fault):
        return end
    fault = utf8_fault(text, start, end)
    return end if fault is None else fault._replace(read_to=end)


def utf8_fault(text: bytes, start: int, stop: int) -> Fault | None:
    """The first byte of ``text[start:stop]`` that is not valid UTF-8, if there is one."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at in range(start, stop, _UTF8_STEP_BYTES):
        pending = len(decoder.getstate()[0])
        step_stop = min(at + _UTF8_STEP_BYTES, stop)
        try:
            decoder.decode(text[at:step_stop], final=step_stop == stop)
        except UnicodeDecodeError as error:
            return Fault(at - pending + error.start, "not valid UTF-8")
    return None


def compact(value: bytes) -> bytes:
    """A valid JSON text without the white space between its tokens; every token keeps its bytes.

    Control characters cannot occur in valid JSON, so two of them can represent the escapes that would hide a quote.
    """
    masked = value.replace(b"\\\\", b"\x00").replace(b'\\"', b"\x01")
    parts = masked.split(b'"')
    parts[::2] = [part.translate(None, b" \t\r\n") for part in parts[::2]]
    return b'"'.join(parts).replace(b"\x01", b'\\"').replace(b"\x00", b"\\\\")


def _value_inside(text: bytes, at: int, stop: int, bracket: int) -> int | Fault:
    """Where the next value begins that is neither last nor plain, inside *bracket*, after it or after a comma."""
    simple = _simple_items if bracket == _ARRAY else _simple_members
    while (behind := _skip(simple, text, at, stop)) > at:
        at = behind
    return at if bracket == _ARRAY else _name_end(text, at, stop)


def _next_value(text: bytes, at: int, stop: int, bracket: int) -> int | Fault:
    """Where the value after the comma at *at* begins."""
    behind = _skip(_comma, text, at, stop)
    if behind == at:
        return _fault(text, at, stop, f"',' or '{chr(_CLOSER[bracket])}' is missing")
    return _value_inside(text, behind, stop, bracket)


def _leave_brackets(text: bytes, at: int, stop: int, nesting: bytearray) -> int:
    """Position after the brackets that close at *at*; if some are still open, also after the white space there."""
    while nesting:
        at = _skip(_blank, text, at, stop)
        if _peek(text, at, stop) != _CLOSER[nesting[-1]]:
            break
        nesting.pop()
        at += 1
    return at


def _name_end(text: bytes, at: int, stop: int) -> int | Fault:
    """Where the value begins of the member whose name begins at *at*."""
    behind = _skip(_name, text, at, stop)
    if behind > at:
        return behind
    if _peek(text, at, stop) != _QUOTE:
        return _fault(text, at, stop, "a name in double quotes is missing")
    end = _string_end(text, at, stop)
    if isinstance(end, Fault):
        return end
    behind = _skip(_colon, text, end, stop)
    if behind > end:
        return behind
    return _fault(text, _skip(_blank, text, end, stop), stop, "':' is missing")


def _scalar_end(text: bytes, at: int, stop: int) -> int | Fault:
    if _peek(text, at, stop) == _QUOTE:
        return _string_end(text, at, stop)
    end = _skip(_scalar, text, at, stop)
    return end if end > at else _fault(text, at, stop, "not a JSON value")


def _string_end(text: bytes, at: int, stop: int) -> int | Fault:
    """Position after the string whose opening quote is at *at*."""
    at += 1
    while (behind := _skip(_in_string, text, at, stop)) > at:
        at = behind
    byte = _peek(text, at, stop)
    if byte == _QUOTE:
        return at + 1
    if byte == _BACKSLASH:
        return _fault(text, at, stop, "invalid escape in a string")
    if byte in _LINE_ENDS:
        return _fault(text, at, stop, "line ends inside a string (truncated record?)")
    return _fault(text, at, stop, f"a control character in a string must be escaped (\\u{max(byte, 0):04x})")


def _explained(text: bytes, start: int, stop: int, fault: Fault) -> Fault:
    """*fault* of the value that begins at *start*, with a likely cause if the text at the missing token shows one."""
    at, byte = fault.at, _peek(text, fault.at, stop)
    before = text[max(start, at - _LOOK_BACK_BYTES) : at]
    blanks = before[len(before.rstrip(b" \t\r\n")) :]
    reason = fault.reason
    if byte in _OPENERS and b"\n" in blanks:
        reason = f"line ends inside an object or array (truncated record?): {reason}"
    elif byte in _CLOSERS and before.rstrip(b" \t\r\n").endswith(b","):
        reason = f"a comma before '{chr(byte)}': {reason}"
    elif byte == _APOSTROPHE:
        reason = f"single quotes are not JSON: {reason}"
    elif (word := _not_json.match(text, at, stop)) is not None:
        reason = f"{word.group().decode()} is not a JSON value"
    return fault._replace(reason=reason)


def _fault(text: bytes, at: int, stop: int, reason: str) -> Fault:
    rest_bytes = stop - at
    cut = (
        rest_bytes <= 0
        or _partial.fullmatch(text, at, stop) is not None
        or (rest_bytes <= _LONGEST_WORD_BYTES and _partly_foreign.fullmatch(text, at, stop) is not None)
    )
    return Fault(at, "unexpected end of file (truncated?)" if cut else reason, cut)


def _skip(pattern: re.Pattern[bytes], text: bytes, at: int, stop: int) -> int:
    match = pattern.match(text, at, stop)
    return at if match is None else match.end()


def _peek(text: bytes, at: int, stop: int) -> int:
    return text[at] if at < stop else -1
