"""What the quarantine keeps: its records, where they come from, and their lines in its objects."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

TEXT_BYTES = 64 * 1024
_BASE64_STEP_BYTES = 3 * 64 * 1024  # a multiple of three, so that the steps concatenate to one base64 text

STRETCH, REFUSED, FILE = "stretch", "refused", "file"

ENDING = ".ndjson"


class ObjectStore(Protocol):
    """Complete named objects. A name is a relative path with slashes."""

    def put(self, name: str, data: bytes) -> None:
        """Write *data* under *name*, replacing an older object in one step."""

    def get(self, name: str) -> bytes:
        """The bytes under *name*."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """Names below the folder *prefix*."""

    def delete(self, name: str) -> None:
        """Delete *name*; no error if it does not exist."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing in the quarantine.

    Attributes:
        kind: ``stretch`` (bytes of a file that are not an event), ``refused`` (an event that a subscriber will never
            accept) or ``file`` (a whole file that could not be read).
        reason: in words.
        manifest: the manifest's id.
        key, etag: of the file in the source, also if the record was retried before; empty if a refused event's file is
            not known.
        offset: of the first byte in the decompressed file, or the event's index in its batch.
        length: number of bytes; for ``file``, as stored.
        subscriber: which one refused it; empty otherwise.
        batch: id of the refused event's batch; empty otherwise.
        bytes_base64: the bytes, or the first of them if there are more than are kept; empty for a file.
        text: the same as text; None if it is not valid UTF-8, or longer than ``TEXT_BYTES``.
        event: number of a refused event in its file, from 0; None if it is not known, and for other kinds.
        retries: how often it was retried before it came back.
        life: what happened to it, one entry for each change: state, at, by, why.
    """

    kind: str
    reason: str
    manifest: str
    key: str
    etag: str
    offset: int
    length: int
    subscriber: str
    batch: str
    bytes_base64: str
    text: str | None
    event: int | None = None
    retries: int = 0
    life: Sequence[Mapping[str, str]] = ()

    @property
    def data(self) -> bytes:
        """The bytes that were kept."""
        return base64.b64decode(self.bytes_base64)

    @property
    def is_whole(self) -> bool:
        """Whether all bytes were kept, so that they can be retried."""
        return self.kind != FILE and (self.kind == REFUSED or len(self.data) == self.length)

    @property
    def origin(self) -> "Origin":
        """Where it comes from in the source."""
        return Origin(self.key, self.etag, self.offset if self.kind == STRETCH else 0, self.event, self.retries)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record comes from in the source.

    Attributes:
        key, etag: of the file; empty if not known.
        offset: of its first byte in the decompressed file.
        event: number of a refused event in the file, from 0; None if it is not known.
        retries: how often it was retried.
    """

    key: str
    etag: str
    offset: int = 0
    event: int | None = None
    retries: int = 0


@dataclass(slots=True)
class Kept:
    """What one entry keeps of one file.

    Attributes:
        name: of the entry.
        key, etag: of the file in the source; empty if not known.
        offset, reason: of the first record.
    """

    name: str
    key: str
    etag: str
    kind: str
    manifest: str
    subscriber: str
    offset: int
    reason: str
    records: int = 0
    size_bytes: int = 0


class Summary:
    """Counts the records of an entry by file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._by_key: dict[str, Kept] = {}

    @property
    def kept(self) -> list[Kept]:
        """What there is, by file."""
        return list(self._by_key.values())

    def add(self, fields: Mapping[str, Any]) -> None:
        """Count a record."""
        one = self._by_key.get(fields["key"])
        if one is None:
            own = ("key", "etag", "kind", "manifest", "subscriber", "offset", "reason")
            one = self._by_key[fields["key"]] = Kept(self._name, **{name: fields[name] for name in own})
        one.records += 1
        one.size_bytes += fields["length"]


def write(
    spool: IO[bytes],
    summary: Summary,
    kind: str,
    reason: str,
    manifest: str,
    *,
    data: bytes,
    length: int,
    **where: str | int | None,
) -> None:
    """Append the line of one :class:`Record`. Its bytes may be many, so they are encoded step by step."""
    fields: dict[str, Any] = {"kind": kind, "reason": reason, "manifest": manifest}
    fields |= {"key": "", "etag": "", "offset": 0, "length": length, "subscriber": "", "batch": "", **where}
    summary.add(fields)
    fields |= {"text": _text(data), "bytes_base64": ""}
    # A lone surrogate, which a key may contain but UTF-8 may not, becomes its JSON escape.
    line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    spool.write(line.removesuffix(b'"}'))
    for at in range(0, len(data), _BASE64_STEP_BYTES):
        spool.write(base64.b64encode(data[at : at + _BASE64_STEP_BYTES]))
    spool.write(b'"}\n')


def _text(data: bytes) -> str | None:
    try:
        return data.decode() if len(data) <= TEXT_BYTES else None
    except UnicodeDecodeError:
        return None


def parsed(line: bytes) -> Record:
    """The record of a line."""
    return Record(**json.loads(line))


def identity(record: Record) -> tuple[str, str, int, str, str, int]:
    """The same for the same record, whatever happened to it."""
    return record.manifest, record.key, record.offset, record.subscriber, record.batch, record.retries


def _without_life(line: bytes) -> tuple[bytes, bytes]:
    """What comes before ``life`` and ``bytes_base64``, the last two of a record's line, and the text of the latter."""
    # In a text of the record the quotation marks would be escaped.
    head, data = line.split(b',"bytes_base64":', 1)
    return head.split(b',"life":', 1)[0], data


def with_life(line: bytes, life: Sequence[Mapping[str, str]]) -> bytes:
    """The line of a record with this :attr:`Record.life`; its bytes may be many, and are not decoded."""
    head, data = _without_life(line)
    text = json.dumps(life, ensure_ascii=False, separators=(",", ":"))
    return head + b',"life":' + text.encode("utf-8", "backslashreplace") + b',"bytes_base64":' + data
