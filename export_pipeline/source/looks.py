"""What looking for events in something broken costs, counted: the same for the same file, however fast the machine."""

LOOK_BYTES = 48
"""What one look costs at least, in bytes: a look at 48 bytes takes about twice as long as one at none."""


class Looks:
    """Counts bytes that are looked at and not accounted for by it, so that they will be looked at again.

    Args:
        left_bytes: how many may still be.

    Attributes:
        spent_bytes: so far.
    """

    def __init__(self, left_bytes: int) -> None:
        self.spent_bytes = 0
        self._left_bytes = left_bytes

    def spend(self, size_bytes: int) -> None:
        """Count one look."""
        self.spent_bytes += LOOK_BYTES + size_bytes

    @property
    def is_over(self) -> bool:
        """No look is left."""
        return self.spent_bytes > self._left_bytes
