"""The two fast checkers. What they accept is an event; what they do not accept goes to ``rfc8259`` for the final word.

simdjson checks 1.5 GB/s, but only where the end of an event is known, and it refuses numbers beyond 64 bits and lone
surrogates. Python's own json scanner checks 0.1 GB/s and finds the end of an object by itself.
"""

import json
import re
from collections import deque
from collections.abc import Sequence
from operator import length_hint
from typing import NoReturn

from export_pipeline.source.file import KIB, MIB, ReadLimits
from export_pipeline.source.rfc8259 import utf8_fault

# simdjson takes up to 14 bytes of memory for each byte of its longest document, and keeps them.
_SIMDJSON_BYTES = MIB
_SIMDJSON_DEPTH = 1024
# Most events are short, and most malformed ones are malformed near their beginning.
_SCANNED_BYTES = (128, KIB, 8 * KIB, 64 * KIB)
_LONGEST_TOKEN_BYTES = 16
_OPEN, _CLOSE = b"{}"
_opening = re.compile(rb'\{[ \t\r\n]*["}]')


class Checker:
    """Confirms events within the limits. Not thread-safe."""

    def __init__(self, limits: ReadLimits) -> None:
        import simdjson

        self._parse = simdjson.Parser(_SIMDJSON_BYTES).parse
        self._max_depth = min(limits.max_depth, _SIMDJSON_DEPTH)
        self._max_bytes = limits.max_event_bytes
        self._padding = _SIMDJSON_DEPTH - self._max_depth
        self._scan = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_not_json).raw_decode

    def refused(self, parts: list[bytes], *, around: bytes) -> list[int]:
        """Trim *parts* in place and return the indexes of those that are not empty and not confirmed to be one event.

        Args:
            parts: pieces without a line feed, each of which should be one event.
            around: bytes to trim off both ends.
        """
        odd = [i for i, part in enumerate(parts) if not part or part[0] != _OPEN or part[-1] != _CLOSE]
        for i in odd:
            parts[i] = parts[i].strip(around)
        refused = {i for i in odd if parts[i] and (parts[i][0] != _OPEN or parts[i][-1] != _CLOSE)}
        longest = max(map(len, parts), default=0)
        if longest > self._max_bytes:
            refused.update([i for i, part in enumerate(parts) if len(part) > self._max_bytes])
        hopeful: Sequence[int] = range(len(parts))
        texts = parts
        if odd or refused:
            hopeful = [i for i, part in enumerate(parts) if part and i not in refused]
            texts = [parts[i] for i in hopeful]
        refused.update([hopeful[i] for i in (*self._no_json(texts), *self._too_deep(texts, longest))])
        return sorted(refused)

    def vouches_for(self, lines: list[bytes]) -> bool:
        """Whether each of *lines*, which end with a line feed, is surely one event from its first byte to its last."""
        if [1 for line in lines if line[0] != _OPEN or line[-2] != _CLOSE]:
            return False
        longest = max(map(len, lines), default=0)
        if longest > self._max_bytes:
            return False
        try:
            deque(map(self._parse, lines), maxlen=0)
        except (ValueError, RuntimeError):
            return False
        return not self._too_deep(lines, longest)

    def object_end(self, text: bytes, start: int, stop: int) -> int:
        """The end of the object that begins at *start*, or -1: not an object, too long, too deep, or incomplete."""
        if _opening.match(text, start, stop) is None:
            return -1
        for size_bytes in _SCANNED_BYTES:
            window = text[start : min(stop, start + size_bytes)].decode("latin-1")
            try:
                length = self._scan(window)[1]
            except json.JSONDecodeError as error:
                # An error far from the end of the window is not caused by the window's end.
                is_cut = error.msg.startswith("Unterminated") or error.pos > len(window) - _LONGEST_TOKEN_BYTES
                if len(window) < size_bytes or not is_cut:
                    return -1
            except (ValueError, RecursionError):
                return -1
            else:
                break
        else:
            return -1
        is_shallow = window.count("{", 0, length) + window.count("[", 0, length) <= self._max_depth
        return start + length if is_shallow and utf8_fault(text, start, start + length) is None else -1

    def _no_json(self, texts: list[bytes]) -> list[int]:
        refused = []
        waiting = iter(texts)
        while True:
            try:
                deque(map(self._parse, waiting), maxlen=0)
            except (ValueError, RuntimeError):
                refused.append(len(texts) - length_hint(waiting) - 1)
            else:
                return refused

    def _too_deep(self, texts: list[bytes], longest: int) -> list[int]:
        """Which of *texts* are deeper than the limit, apart from those that simdjson rejects.

        A level takes at least two bytes of a text, and five if it is an object. So a text of *longest* bytes with fewer
        than a certain number of arrays cannot be too deep, and counting brackets is enough for nearly all texts. The
        others are checked inside enough additional brackets to make simdjson's own depth limit equal to ours.
        """
        if longest <= 2 * self._max_depth:
            return []
        arrays = (5 * self._max_depth - longest) // 3
        suspects = [i for i, text in enumerate(texts) if len(text) - len(text.replace(b"[", b"")) >= arrays]
        suspects = [i for i in suspects if _brackets(texts[i]) > self._max_depth]
        before, behind = b"[" * self._padding, b"]" * self._padding
        return [suspects[i] for i in self._no_json([before + texts[i] + behind for i in suspects])]


def _brackets(text: bytes) -> int:
    """Opening brackets in *text*. replace() finds a byte several times faster than count() does before Python 3.13."""
    return 2 * len(text) - len(text.replace(b"[", b"")) - len(text.replace(b"{", b""))


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
