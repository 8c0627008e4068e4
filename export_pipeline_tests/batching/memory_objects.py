"""Objects in memory."""

from collections.abc import Iterator

from export_pipeline.errors import ObjectMissing


class MemoryObjects:
    """What the quarantine needs of a store.

    Attributes:
        kept: name → bytes.
        puts: every name that was written, in order.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.puts: list[str] = []

    def put(self, name: str, data: bytes) -> None:
        """See ``ObjectStore``."""
        self.puts.append(name)
        self.kept[name] = data

    def get(self, name: str) -> bytes:
        """See ``ObjectStore``."""
        if name not in self.kept:
            raise ObjectMissing(name)
        return self.kept[name]

    def list(self, prefix: str = "") -> Iterator[str]:
        """See ``ObjectStore``."""
        return iter([name for name in self.kept if not prefix or name.startswith(f"{prefix}/")])

    def delete(self, name: str) -> None:
        """See ``ObjectStore``."""
        self.kept.pop(name, None)
