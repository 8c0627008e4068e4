"""Which names in the source are ignored: files still being written, and what tools leave beside their files.

Every listing and every notification applies this rule (:meth:`Source.list_files`), so that runs, checks, freshness,
backfills and ``why`` agree. A file that is renamed to its final name is a new key, and found like any other. Also
counts what a listing left out.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import Lock

from export_pipeline.errors import ConfigurationError
from export_pipeline.source.file import SourceFile

SHOWN = 20
_REMEMBERED = 10_000

_HEX8 = "[0-9A-Fa-f]" * 8
_DIGITS8 = "[0-9]" * 8
_UUID = "-".join("?" * length for length in (8, 4, 4, 4, 12))
_KINDS = "{json,jsonl,ndjson,txt,log,csv,tsv,parquet,orc,avro,gz,zst,bz2,xz,lz4,zip,snappy}"

SHIPPED: dict[str, str] = {
    # Names that begin with a dot: rsync (.x.gz.AbCdEf), Spark and Hadoop (.x.crc, .part-0.inprogress), lftp, azcopy,
    # Syncthing, NFS, macOS. The second character excludes "." and "..", which keys in a bucket may contain.
    ".[!.]*": "hidden: rsync, Hadoop, Spark, Flink, azcopy, Syncthing, NFS, macOS",
    ".[!.]*/": "hidden folders: .hive-staging_…, .spark-staging-…, .Trash, .snapshot",
    "*.tmp": "Flume, browsers and many others",
    "*.temp": "the same",
    "*.part": "Firefox, wget and curl by habit, lftp",
    "*.partial": "rclone (x.gz.1a2b3c4d.partial)",
    "*.filepart": "WinSCP",
    "*.crdownload": "Chromium",
    "*.part.minio": "mc of MinIO",
    "*_.gstmp": "gsutil and gcloud storage",
    "*_.gztmp": "gsutil, of what it unpacks",
    "*._COPYING_": "hadoop fs -put",
    "*.aria2": "aria2",
    "*.inprogress": "Flink",
    "*.in-progress": "Flink, older",
    # aws-cli and boto3 write NAME.6eF5b4dA: eight hexadecimal digits of either case behind a whole name.
    f"*.{_KINDS}.{_HEX8}": "aws s3 cp and sync, boto3",
    # Firehose's names have no extension if it does not compress: NAME-UUID.
    f"*-{_UUID}.{_HEX8}": "the same, of Firehose's names without an ending",
    # ... but a date after a name, as logrotate writes it, is a real file.
    f"!*.{_KINDS}.{_DIGITS8}": "(not ignored: a date or a number behind a name)",
    f"!*-{_UUID}.{_DIGITS8}": "(the same)",
    "_SUCCESS": "Hadoop and Spark: a job has ended",
    "_started_[0-9]*": "Databricks: a transaction",
    "_committed_[0-9]*": "the same",
    "_metadata": "summaries of Parquet files, without rows",
    "_common_metadata": "the same",
    "_temporary/": "Hadoop and Spark: output of a job that has not ended",
    "__magic/": "Hadoop's S3A committer",
    "__magic_job-*/": "the same",
    "_tmp.*/": "Hive",
    "+tmp/": "Kafka Connect's HDFS sink",
    "_delta_log/": "Delta Lake: its log, not its rows",
    "_spark_metadata/": "Spark: what a streaming job has written",
    "*_$folder$": "Hadoop on S3: a folder",
    "*.crc": "Hadoop: checksums",
}
"""The shipped patterns, with the tools that write such names. docs/sources.md shows them; a test compares the two."""

DEFAULT_PATTERNS = tuple(SHIPPED)
_MOST_PATTERNS = 1_000
_SPECIAL = frozenset("*?[]{}")
_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|[{},]|[^*?\[{},]+|.", re.DOTALL)


@dataclass(slots=True)
class LeftOut:
    """What was left out since the last call of :meth:`Source.take_left_out`. Thread-safe.

    Attributes:
        ignored: how many names matched a pattern of ``source.ignore``; a folder that is not entered counts once.
        ignored_keys: the first of them, with the pattern.
        troubles: how many names could not be listed, or not as they are.
        troubled_keys: the first of them, with the reason; a folder ends with a slash.
        unlisted: how many of these may be, or contain, files that should have been listed.
    """

    ignored: int = 0
    ignored_keys: dict[str, str] = field(default_factory=dict)
    troubles: int = 0
    troubled_keys: dict[str, str] = field(default_factory=dict)
    unlisted: int = 0
    _seen: set[int] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def ignore(self, key: str, pattern: str) -> None:
        """Count an ignored name, once, however often it is listed."""
        with self._lock:
            if self._is_new(key):
                self.ignored += 1
                if len(self.ignored_keys) < SHOWN:
                    self.ignored_keys[key] = pattern

    def trouble(self, key: str, reason: str, *, is_lost: bool = True) -> None:
        """Count a name that could not be listed, or not as it is; once, as :meth:`ignore` does.

        Args:
            is_lost: it may be, or contain, files that should be listed.
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


class Ignored:
    """A list of glob patterns; the last one that matches decides, as in gitignore.

    A pattern without a slash is compared with the last part of a key; one that ends in a slash with each folder above
    it; any other with the whole key below the source. ``*`` and ``?`` match anything but a slash, ``**`` matches
    anything, ``[…]`` a character of a set and ``[!…]`` one that is not in it, ``{a,b}`` either. A pattern that begins
    with ``!`` re-includes what earlier ones ignore. Matching is case-sensitive.

    Args:
        patterns: empty: nothing is ignored.

    Raises:
        ConfigurationError: one of them is not a valid pattern.
    """

    def __init__(self, patterns: Sequence[str] = DEFAULT_PATTERNS) -> None:
        if len(patterns) > _MOST_PATTERNS:
            raise ConfigurationError(f"found {len(patterns)} patterns; allowed: at most {_MOST_PATTERNS}")
        self._patterns = [_Pattern(text) for text in patterns]
        self._folders = [one for one in self._patterns if one.is_folder]
        self._paths = [one for one in self._patterns if one.is_path]
        # Hardly any name matches: one test each for suffixes, prefixes and whole names, and one regular expression.
        names = [one for one in self._patterns if not (one.is_negated or one.is_folder or one.is_path)]
        self._ends = tuple(one.glob[1:] for one in names if one.is_end)
        self._begins = tuple(one.glob[:-1] for one in names if one.is_beginning)
        self._wholes = frozenset(one.glob for one in names if one.is_plain)
        others = [one.glob for one in names if not (one.is_end or one.is_beginning or one.is_plain)]
        # A pattern that begins with a star is searched for by what follows it, which is fast if that is a character.
        anywhere = [rf"{_expression(glob[1:])}\Z" for glob in others if glob[0] == "*"]
        self._anywhere = [re.compile(one, re.DOTALL) for one in anywhere]
        begun = "|".join(rf"(?:{_expression(glob)})\Z" for glob in others if glob[0] != "*")
        self._others = re.compile(begun, re.DOTALL) if begun else None
        folders = "|".join(one.expression for one in self._folders if not one.is_negated)
        self._any_folder = re.compile(rf"(?:\A|/)(?:{folders})(?:/|\Z)") if folders else None

    def pattern_of(self, key: str) -> str | None:
        """The pattern because of which *key* is ignored; None: it is not ignored."""
        folder, _, name = key.rpartition("/")
        if not (self._may_match(name) or self._paths or self.has_folder(folder)):
            return None
        decisive = None
        for one in self._patterns:
            if one.matches(key, name, folder):
                decisive = None if one.is_negated else one.text
        return decisive

    def has_folder(self, folder: str) -> bool:
        """Whether a part of *folder*, a path without a trailing slash, matches a folder pattern."""
        return bool(folder) and self._any_folder is not None and self._any_folder.search(folder) is not None

    def sift(self, files: Iterable[SourceFile], left_out: LeftOut) -> Iterator[SourceFile]:
        """*files* without the ignored ones, which are counted."""
        if not self._patterns:
            yield from files
            return
        last_folder, is_suspicious = "", bool(self._paths)
        for file in files:
            key = file.key
            folder, _, name = key.rpartition("/")
            if folder != last_folder:
                last_folder, is_suspicious = folder, bool(self._paths) or self.has_folder(folder)
            if (is_suspicious or self._may_match(name)) and (pattern := self.pattern_of(key)) is not None:
                left_out.ignore(key, pattern)
            else:
                yield file

    def _may_match(self, name: str) -> bool:
        return (
            name.endswith(self._ends)
            or name.startswith(self._begins)
            or name in self._wholes
            or (self._others is not None and self._others.match(name) is not None)
            or any(one.search(name) for one in self._anywhere)
        )


@lru_cache(maxsize=32)
def ignoring(patterns: tuple[str, ...]) -> Ignored:
    """:class:`Ignored`, made once for the same patterns: a process opens its source again and again.

    Raises:
        ConfigurationError: one of them is not a valid pattern.
    """
    return Ignored(patterns)


@dataclass(frozen=True)
class _Pattern:
    text: str

    def __post_init__(self) -> None:
        if not self.glob.strip("/"):
            raise ConfigurationError(f"found {self.text!r}; allowed: a glob pattern such as '*.tmp' or '_temporary/'")
        try:
            self.compiled  # noqa: B018 (an invalid pattern is reported now)
        except re.error as error:
            raise ConfigurationError(f"found {self.text!r}, which is not a valid glob pattern: {error}") from None

    @property
    def is_negated(self) -> bool:
        return self.text.startswith("!")

    @property
    def glob(self) -> str:
        return self.text[1:] if self.is_negated else self.text

    @property
    def is_folder(self) -> bool:
        return self.glob.endswith("/") and "/" not in self.glob[:-1]

    @property
    def is_path(self) -> bool:
        return "/" in self.glob and not self.is_folder

    @property
    def is_plain(self) -> bool:
        return not _SPECIAL & set(self.glob)

    @property
    def is_end(self) -> bool:
        return self.glob[0] == "*" and not _SPECIAL & set(self.glob[1:])

    @property
    def is_beginning(self) -> bool:
        return self.glob[-1] == "*" and not _SPECIAL & set(self.glob[:-1])

    @cached_property
    def expression(self) -> str:
        return _expression(self.glob.strip("/"))

    @cached_property
    def compiled(self) -> "re.Pattern[str]":
        return re.compile(self.expression + ("(?:/.*)?" if self.is_path and self.glob.endswith("/") else ""), re.DOTALL)

    def matches(self, key: str, name: str, folder: str) -> bool:
        if self.is_folder:
            return any(self.compiled.fullmatch(part) for part in folder.split("/"))
        return self.compiled.fullmatch(key if self.is_path else name) is not None


def _expression(glob: str) -> str:
    """*glob* as a regular expression."""
    depth, written = 0, []
    for token in _TOKEN.findall(glob):
        if token == "**/":  # noqa: S105 (no password)
            written.append("(?:.*/)?")
        elif token == "**":  # noqa: S105
            written.append(".*")
        elif token == "*":  # noqa: S105
            written.append("[^/]*")
        elif token == "?":  # noqa: S105
            written.append("[^/]")
        elif token == "{":  # noqa: S105
            depth += 1
            written.append("(?:")
        elif token == "}" and depth:  # noqa: S105
            depth -= 1
            written.append(")")
        elif token == "," and depth:  # noqa: S105
            written.append("|")
        elif token[0] == "[" and len(token) > 1:
            inner = token[1:-1]
            mark = "^/" if inner.startswith("!") else ""
            written.append(f"[{mark}{_in_set(inner.removeprefix('!'))}]")
        else:
            written.append(re.escape(token))
    if depth:
        raise re.error("a { is not closed")
    return "".join(written)


def _in_set(inner: str) -> str:
    # A minus stays, for ranges.
    return re.sub(r"([\\\[\]^&~|])", r"\\\1", inner)


NOTHING_IGNORED = Ignored(())
