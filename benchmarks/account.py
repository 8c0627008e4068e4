"""Checks the output: how many events, and whether their bytes equal the input, in any order."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MODULUS = 1 << 128
_READ_BYTES = 1 << 24


@dataclass(slots=True)
class Account:
    """A count of events.

    Attributes:
        events: how many.
        checksum: the sum of all their hashes, which does not depend on the order.
    """

    events: int = 0
    checksum: int = 0

    def add(self, events: Iterable[bytes]) -> None:
        """Count more events."""
        for event in events:
            self.events += 1
            digest = hashlib.blake2b(event, digest_size=16).digest()
            self.checksum = (self.checksum + int.from_bytes(digest, "big")) % MODULUS


def account_of(files: Iterable[Path], *, begins: bytes = b"{") -> Account:
    """The lines of *files* that begin with *begins*."""
    account = Account()
    for path in files:
        with path.open("rb") as file:
            rest = b""
            while piece := file.read(_READ_BYTES):
                lines = (rest + piece).split(b"\n")
                rest = lines.pop()
                account.add(line for line in lines if line.startswith(begins))
            account.add([rest] if rest.startswith(begins) else [])
    return account
