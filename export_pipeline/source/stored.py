"""Reads stored bytes by length."""

from collections.abc import Iterator

from export_pipeline.errors import FileCorrupt


class Stored:
    """Reads the bytes of a file in lengths that its format specifies.

    Args:
        pieces: the file.
        key: for the error messages.
        name: name of the format, also for error messages.
    """

    def __init__(self, pieces: Iterator[bytes], key: str, name: str) -> None:
        self._pieces = pieces
        self._key = key
        self._name = name
        self._rest = memoryview(b"")

    def read(self, length: int) -> bytes:
        """The next *length* bytes.

        Raises:
            FileCorrupt: there are fewer.
        """
        return b"".join(self._parts(length))

    def skip(self, length: int) -> None:
        """Skip the next *length* bytes, as :meth:`read` reads them."""
        for _ in self._parts(length):
            pass

    def rest(self) -> Iterator[bytes]:
        """Everything not yet read, in pieces."""
        if self._rest:
            yield bytes(self._rest)
        yield from self._pieces

    def is_at_end(self) -> bool:
        """Whether everything has been read."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._rest = memoryview(piece)
        return False

    def _parts(self, length: int) -> Iterator[memoryview]:
        while length:
            if self.is_at_end():
                raise FileCorrupt(self._key, f"the {self._name} data is truncated")
            part = self._rest[:length]
            self._rest = self._rest[len(part) :]
            length -= len(part)
            yield part


def peek(pieces: Iterator[bytes], size_bytes: int) -> tuple[bytes, Iterator[bytes]]:
    """The first *size_bytes* or more of *pieces*, or all of them if there are fewer; and all of the pieces."""
    taken: list[bytes] = []
    taken_bytes = 0
    for piece in pieces:
        taken.append(piece)
        taken_bytes += len(piece)
        if taken_bytes >= size_bytes:
            break
    head = taken[0] if len(taken) == 1 else b"".join(taken)
    return head, _chained(head, pieces)


def _chained(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from pieces
