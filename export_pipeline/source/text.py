"""Whether bytes are text, and in which encoding.

A file that is not text is rejected as a whole: read as lines, parts of an unknown binary format could pass for events.
A file is text if one of these holds, after byte order marks, white space, record separators (RFC 7464) and zeros:

- It continues with JSON: an object with a name or without members, or an array of objects. Framing judges the rest.
- Its first 4 KiB contain no control characters except white space, terminal controls and record separators; if they are
  fewer than 256 bytes, too few to be sure, they must be valid UTF-8 as well.
- Of the complete lines in its first 64 KiB, at least half are events: junk before them costs no event.
"""

import codecs
import re
from collections.abc import Iterator

from export_pipeline.errors import FileCorrupt
from export_pipeline.source.file import KIB, MIB
from export_pipeline.source.rfc8259 import read_object
from export_pipeline.source.stored import peek
from export_pipeline.source.unpacking import PIECE_BYTES, Unpacking

RECORD_SEPARATOR = b"\x1e"
_UTF8_MARK = codecs.BOM_UTF8
_BLANK = b" \t\r\n"
_START_BYTES = 4 * KIB
_LINES_BYTES = 64 * KIB
_FEW_BYTES = 256
_STEP_BYTES = MIB

# The control characters that file(1) does not accept in text, except the record separator.
_CONTROLS = bytes({*range(0x20)} - {*b"\a\b\t\n\v\f\r\x1b\x1e"})
_before = re.compile(rb"(?:[\0 \t\r\n\x1e]+|\xef\xbb\xbf){0,64}")
_json = re.compile(rb'\[[ \t\r\n]*[{\]]|\{[ \t\r\n]*["}]')
_last_of_a_character = re.compile(rb"[\x80-\xbf]{1,3}")

# In this order: the byte order mark of UTF-32-LE begins with that of UTF-16-LE.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# RFC 4627, section 3: the first two characters of a JSON text are ASCII.
_unmarked = {
    "utf-32-le": re.compile(rb"[\[{]\0\0\0[ -~\s]\0\0\0", re.DOTALL),
    "utf-32-be": re.compile(rb"\0\0\0[\[{]\0\0\0[ -~\s]", re.DOTALL),
    "utf-16-le": re.compile(rb"[\[{]\0[ -~\s]\0", re.DOTALL),
    "utf-16-be": re.compile(rb"\0[\[{]\0[ -~\s]", re.DOTALL),
}


def read_text(pieces: Iterator[bytes], job: Unpacking, supported: str) -> Iterator[bytes]:
    """The same text in UTF-8, in pieces of at most ``PIECE_BYTES``.

    Args:
        supported: which other formats are supported, for the error.

    Raises:
        FileCorrupt: it is not text.
    """
    head, pieces = peek(pieces, _FEW_BYTES)
    encoding = encoding_of(head)
    if encoding:
        yield from _transcoded(pieces, job, encoding)
        return
    if not _begins_as_json(head):
        head, pieces = peek(pieces, _LINES_BYTES)
        if not is_text(head):
            raise FileCorrupt(job.key, _no_text(head, job, supported))
    for piece in pieces:
        if len(piece) <= PIECE_BYTES:
            yield piece
            continue
        for at in range(0, len(piece), PIECE_BYTES):
            yield piece[at : at + PIECE_BYTES]


def encoding_of(head: bytes) -> str:
    """UTF-16 or UTF-32, by the byte order mark or by the zeros in the first characters of JSON; empty: neither."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    return next((encoding for encoding, pattern in _unmarked.items() if pattern.match(head)), "")


def has_controls(data: bytes) -> bool:
    """Whether *data* contains control characters that do not occur in text."""
    return len(data.translate(None, _CONTROLS)) < len(data)


def is_text(head: bytes) -> bool:
    """Whether a file that begins with *head* is text; *head* is the whole file if it is shorter than 64 KiB."""
    if _begins_as_json(head):
        return True
    begin = _behind_separators(head)
    start = head[begin : begin + _START_BYTES]
    if not start:
        return b"\0" not in head
    is_clean = not has_controls(start) and (len(start) >= _FEW_BYTES or _is_utf8(start))
    if is_clean and b"\0" not in head[:begin]:
        return True
    return _has_lines_of_events(head)


def _behind_separators(head: bytes) -> int:
    match = _before.match(head)
    return 0 if match is None else match.end()


def _begins_as_json(head: bytes) -> bool:
    return _json.match(head, _behind_separators(head)) is not None


def _is_utf8(start: bytes) -> bool:
    """Whether *start* is UTF-8; its first and last characters may be cut off."""
    cut = _last_of_a_character.match(start)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start[0 if cut is None else cut.end() :])
    except UnicodeDecodeError:
        return False
    return True


def _has_lines_of_events(head: bytes) -> bool:
    lines = head[:_LINES_BYTES].split(b"\n")
    if len(head) >= _LINES_BYTES:
        lines.pop()
    texts = [text for text in (line.strip(_BLANK + RECORD_SEPARATOR + b",") for line in lines) if text]
    events = sum(1 for text in texts if read_object(text, 0, len(text), max_depth=len(text)) == len(text))
    return events > 0 and 2 * events >= len(texts)


def _no_text(head: bytes, job: Unpacking, supported: str) -> str:
    inside = f"inside {' in '.join(reversed(job.packings))}, it" if job.packings else "it"
    return (
        f"{inside} is neither text nor in a format that is detected from magic bytes; it begins with "
        f"{head[:8].hex(' ')}; supported are text in UTF-8, UTF-16 and UTF-32, and {supported}"
    )


def _transcoded(pieces: Iterator[bytes], job: Unpacking, encoding: str) -> Iterator[bytes]:
    """*pieces* in UTF-8. A lone surrogate becomes invalid UTF-8: this costs its event, but not the file."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    done_bytes = 0
    try:
        for piece in pieces:
            for at in range(0, len(piece), _STEP_BYTES):
                step = piece[at : at + _STEP_BYTES]
                text = decoder.decode(step)
                done_bytes += len(step)
                if text:
                    yield text.encode("utf-8", "surrogatepass")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        reason = f"not valid {encoding.upper()} near byte {done_bytes} ({error.reason})"
        raise FileCorrupt(job.key, reason) from None
