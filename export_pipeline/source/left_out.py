"""What a listing leaves out, so that whoever lists can tell it: ignored names, and what could not be listed."""

from dataclasses import dataclass, field
from threading import Lock

SHOWN = 20
_REMEMBERED = 10_000


@dataclass(slots=True)
class LeftOut:
    """What was left out since somebody asked last. Safe to use from several threads.

    Attributes:
        ignored: how many names matched a pattern of ``source.ignore``; a folder that is not entered counts once.
        ignored_keys: the first of them, with the pattern.
        troubles: how many names there is something to say of: they are not listed, or not as they are.
        troubled_keys: the first of them, with the reason; a folder ends with a slash.
        unlisted: how many of these may be, or hold, files that should be listed and could not be.
    """

    ignored: int = 0
    ignored_keys: dict[str, str] = field(default_factory=dict)
    troubles: int = 0
    troubled_keys: dict[str, str] = field(default_factory=dict)
    unlisted: int = 0
    _seen: set[int] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def ignore(self, key: str, pattern: str) -> None:
        """Count a name once, however often it is listed meanwhile."""
        with self._lock:
            if self._is_new(key):
                self.ignored += 1
                if len(self.ignored_keys) < SHOWN:
                    self.ignored_keys[key] = pattern

    def trouble(self, key: str, reason: str, *, is_lost: bool = True) -> None:
        """The same of a name that could not be listed, or not as it is.

        Args:
            is_lost: it may be, or hold, files that should be listed.
        """
        with self._lock:
            if self._is_new(key):
                self.troubles += 1
                self.unlisted += is_lost
                if len(self.troubled_keys) < SHOWN:
                    self.troubled_keys[key] = reason

    def _is_new(self, key: str) -> bool:
        number = hash(key)
        if number in self._seen:
            return False
        if len(self._seen) < _REMEMBERED:
            self._seen.add(number)
        return True
