"""From the decompressed bytes of one file to its events, one line each.

Events are separated by white space, byte order marks, record separators (RFC 7464), commas, and the brackets of an
array of objects. An event is a JSON object (RFC 8259). Everything else is a malformed record; ``resync`` decides where
it ends.

Most of a file takes the fast path: lines, or the pieces between ``}{``, go to the checker by the hundred. What it
accepts is an event whatever follows, because no JSON object begins with another one. Only the parts that it does not
accept are read step by step, until a step ends at the start of a part. Lines that are events from their first byte
to their line feed take an even faster path: nothing of them is copied except for the checker.
"""

from io import BytesIO

from export_pipeline.source.checker import Checker
from export_pipeline.source.file import KIB, ReadLimits
from export_pipeline.source.framed import Framed, Lines, Tally, split_lines
from export_pipeline.source.stepping import Stepper
from export_pipeline.source.unpacking import Checkpoint, go_on
from export_pipeline.source.window import MoreNeeded, Window

# An unterminated line is not examined until it is this long: it will probably end in the next piece.
_PATIENCE_BYTES = 64 * KIB
_AROUND = b" \t\r,\x1e"  # separators that may surround an event in its line
# Small compared with a core's caches.
_PORTION_BYTES = 512 * KIB


class Framer:
    """Frames one file: feed it the pieces of the file in order, then finish it.

    Args:
        limits: what an event may be.
        checker: confirms events.
        portion_bytes: how much is examined at a time.
        checkpoint: called for each portion that takes the slow path; may raise to stop.
    """

    def __init__(
        self,
        limits: ReadLimits,
        checker: Checker,
        *,
        portion_bytes: int = _PORTION_BYTES,
        checkpoint: Checkpoint = go_on,
    ) -> None:
        self._limits = limits
        self._checker = checker
        self._portion_bytes = portion_bytes
        self._checkpoint = checkpoint
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._wanted_bytes = 1
        self._has_carriage_returns = False
        self._steps = Stepper(Window(b"", False, limits, checker))

    @property
    def tally(self) -> Tally:
        """What has been found so far."""
        return self._steps.tally

    def feed(self, piece: bytes) -> list[Framed]:
        """What can be framed now that the file is known to continue with *piece*."""
        may_be_lines = b"\r" not in piece
        at, is_line_end = 0, False
        while at < len(piece):
            if may_be_lines and self._is_between_events:
                at = self._pass_lines(piece, at)
            end = at + self._portion_bytes
            if may_be_lines and self._pending_bytes and not is_line_end:
                # Up to the end of the line that has begun: the lines after it may pass unchanged.
                end = piece.find(b"\n", at, end) + 1 or end
            is_line_end = end < at + self._portion_bytes
            self._add(piece[at:end])
            at = end
        return self._framed()

    def finish(self) -> list[Framed]:
        """What is left to frame, now that the file has ended."""
        self._frame(is_last=True)
        return self._framed()

    @property
    def _is_between_events(self) -> bool:
        """Nothing is waiting for more text, and no malformed record has begun."""
        return not (self._pending_bytes or self._steps.in_stretch)

    def _pass_lines(self, piece: bytes, at: int) -> int:
        """Skip the lines from *at* on that contain nothing but events; returns where they end."""
        stream = BytesIO(piece)
        stream.seek(at)
        while lines := stream.readlines(self._portion_bytes):
            if not lines[-1].endswith(b"\n"):
                lines.pop()
            if not lines or not self._checker.vouches_for(lines):
                break
            end = at + sum(map(len, lines))
            self._steps.pass_ahead(Lines(memoryview(piece)[at:end], len(lines)))
            at = end
        return at

    def _add(self, portion: bytes) -> None:
        self._pending.append(portion)
        self._pending_bytes += len(portion)
        if self._pending_bytes >= self._wanted_bytes:
            self._checkpoint()
            self._frame(is_last=False)

    def _framed(self) -> list[Framed]:
        framed, self._steps.framed = self._steps.framed, []
        return framed

    def _frame(self, *, is_last: bool) -> None:
        steps = self._steps
        text = b"".join(self._pending)
        steps.move(Window(text, is_last, self._limits, self._checker))
        try:
            self._advance(text, is_last=is_last)
        except MoreNeeded:
            pass
        else:
            if is_last:
                steps.finish()
        rest = text[steps.at :]
        self._pending, self._pending_bytes = [rest], len(rest)
        # Twice as much before the next try, so that a long part is not read again with every piece.
        self._wanted_bytes = max(len(rest) + 1, 2 * len(rest))

    def _advance(self, text: bytes, *, is_last: bool) -> None:
        if self._steps.in_stretch:
            self._steps.step(len(text))
        self._has_carriage_returns = b"\r" in text
        self._walk_text(text, is_last=is_last)

    def _walk_text(self, text: bytes, *, is_last: bool) -> None:
        """Past *text* from the current position on, or as far as it can be classified."""
        steps = self._steps
        lines, tail = split_lines(text[steps.at :] if steps.at else text)
        tail_at = len(text) - len(tail)
        self._walk(lines, gap=1)
        tail = tail[steps.at - tail_at :]
        pieces = tail.replace(b"}{", b"}\n{").replace(b"},{", b"},\n{").split(b"\n")
        if is_last or len(pieces) > 1 or len(tail) >= _PATIENCE_BYTES:
            self._walk(pieces, gap=0)

    def _walk(self, parts: list[bytes], *, gap: int) -> None:
        """Past *parts*, the first of which begins at the current position.

        Args:
            parts: each is followed by *gap* separator bytes. They are trimmed in place.
        """
        steps = self._steps
        lengths = list(map(len, parts))
        done, begin = 0, steps.at  # part number `done` begins at `begin`
        for i in self._refused(parts):
            if i < done:
                continue
            size = sum(lengths[done:i]) + gap * (i - done)
            self._take(parts[done:i], size, gap)
            done, begin = i, begin + size
            while done < len(parts) and (steps.at > begin or done == i):
                steps.step(begin + lengths[done])
                while done < len(parts) and begin + lengths[done] <= steps.at:
                    begin += lengths[done] + gap
                    done += 1
                if steps.at < begin:
                    steps.pass_separators(begin)
        self._take(parts[done:], sum(lengths[done:]) + gap * (len(parts) - done), gap)

    def _refused(self, parts: list[bytes]) -> list[int]:
        """Trim *parts*; returns the indexes of those that must be read step by step."""
        refused = self._checker.refused(parts, around=_AROUND)
        if not self._has_carriage_returns:
            return refused
        return sorted({*refused, *(i for i, part in enumerate(parts) if b"\r" in part)})

    def _take(self, parts: list[bytes], size_bytes: int, gap: int) -> None:
        """Take the next *size_bytes* as events and their separators; empty *parts* are not events."""
        events = parts if all(parts) else [part for part in parts if part]
        if gap and events and sum(map(len, events)) + len(events) == size_bytes:
            self._steps.pass_lines(len(events), size_bytes)
        else:
            self._steps.pass_events(events, size_bytes)
