"""Numbers formatted for people."""

from itertools import pairwise

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_TIMES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def counted(number: int, one: str, many: str = "") -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def sized(size_bytes: float) -> str:
    """``512 bytes``, ``1.5 MB`` (powers of 1,000)."""
    for unit in _UNITS[:-1]:
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} {_UNITS[-1]}"


def lasting(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``: the two largest units, but never seconds with another unit."""
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    rest = int(seconds)
    for (size, unit), (smaller, smaller_unit) in pairwise(_TIMES):
        if rest >= size:
            part = rest % size // smaller
            return f"{rest // size} {unit}" + (f" {part} {smaller_unit}" if part and smaller > 1 else "")
    raise AssertionError(f"{seconds} s is neither below nor from a minute on")
