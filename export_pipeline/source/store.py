"""The source: which files it contains, and their bytes exactly as listed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

from export_pipeline.source.file import SourceFile
from export_pipeline.source.ignored import NOTHING_IGNORED, Ignored, LeftOut
from export_pipeline.source.settings import SourceSettings

READ_BYTES = 4 * 1024 * 1024


class Source(ABC):
    """A place where raw files land. Thread-safe.

    Attributes:
        url: normalised and without credentials; identical for every spelling of the same place.
        ignored: which names no listing shows.
    """

    url: str
    ignored: Ignored = NOTHING_IGNORED

    def list_files(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """Files whose key is greater than *after*, begins with *prefix* and is less than *before*.

        Lazily, strictly in UTF-8 byte order of the keys. Folder placeholders (keys that end in ``/``) are not files.
        Ignored names, and what could not be listed, are in :meth:`take_left_out` afterwards.

        Args:
            after: a key, or any string; itself excluded.
            prefix: plain text, not a path: ``2026/1`` covers ``2026/10/…`` to ``2026/12/…``.
            before: a key, or any string; itself excluded.

        Raises:
            ListingFailed: with the URL and the cause.
        """
        return self.ignored.sift(self.list_all(after=after, prefix=prefix, before=before), self.left_out)

    def list_all(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """As :meth:`list_files`, including ignored names."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither list_files nor list_all")

    @cached_property
    def left_out(self) -> LeftOut:
        """What has been left out since :meth:`take_left_out` was last called."""
        return LeftOut()

    def take_left_out(self) -> LeftOut:
        """Return what was left out, and start counting from zero."""
        taken = self.left_out
        self.__dict__["left_out"] = LeftOut()
        return taken

    def find_file(self, key: str) -> SourceFile | None:
        """The file under *key* as a listing would show it now; None: it does not exist.

        Raises:
            FileForbidden, FileUnreachable, ListingFailed: the store did not answer.
        """
        found = next(self.list_files(prefix=key), None)
        return found if found is not None and found.key == key else None

    @abstractmethod
    def read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        """The bytes of exactly the listed object, from *start* up to but excluding *stop*.

        Raises:
            FileGone: it no longer exists.
            FileReplaced: another object is under this key.
            FileForbidden: the credentials do not allow reading it.
            FileUnreachable: the store failed despite retries, or sent a different number of bytes than announced.
        """

    def read_chunks(self, file: SourceFile, *, chunk_bytes: int = READ_BYTES) -> Iterator[bytes]:
        """The bytes of exactly the listed object, in pieces of *chunk_bytes*; the last may be shorter.

        Raises:
            FileError: as :meth:`read_range`.
        """
        if file.size_bytes == 0:
            self.read_range(file, 0, 0)
            return
        for start in range(0, file.size_bytes, chunk_bytes):
            yield self.read_range(file, start, min(start + chunk_bytes, file.size_bytes))

    @abstractmethod
    def close(self) -> None:
        """Close the connections. The source cannot be used afterwards."""


def open_source(settings: SourceSettings) -> Source:
    """The source that *settings* describe. Does not access the network or the disk yet.

    Raises:
        ConfigurationError: the URL has an unknown scheme, or options contradict each other.
    """
    source = _opened(settings)
    source.ignored = settings.ignored
    return source


def _opened(settings: SourceSettings) -> Source:
    from export_pipeline.storage.location import parse_location

    location = parse_location(settings.url)
    if location.scheme == "file":
        from export_pipeline.source.local import LocalSource

        return LocalSource(location)
    if location.scheme == "s3":
        from export_pipeline.source.s3 import S3Source

        return S3Source(location, settings)
    from export_pipeline.source.remote import ObstoreSource

    return ObstoreSource(location, settings)
