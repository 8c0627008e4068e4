"""A fast S3 on loopback, with optional latency: ``python -m benchmarks.server --bucket NAME=INDEX``.

It lists (ListObjectsV2, and the older ListObjects) and serves (GET with Range and If-Match, HEAD). It checks no
signatures and accepts no writes. On one core it answers several times as many requests as any client here sends, so
that the client is what is measured. Needs only Python; with uvloop it is twice as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import mmap
import signal
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.bucket import Entry, read_index

_PAGE = 1_000
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_BEHIND = "~"
"""Sorts behind every character of a key."""

Answer = tuple[bytes, "bytes | memoryview"]


class Bucket:
    """The responses of one bucket. Everything that does not depend on the request is computed once."""

    def __init__(self, name: str, entries: list[Entry]) -> None:
        self.name = name
        self._keys = [entry.key for entry in entries]
        self._place = {entry.key: place for place, entry in enumerate(entries)}
        self._entries = entries
        self._heads = [_object_head(entry) for entry in entries]
        self._listed = [_listed(entry) for entry in entries]
        self._bodies: dict[Path, memoryview] = {}

    def get(self, key: str, head: bytes) -> Answer:
        """The response to a GET or HEAD of *key* with the headers *head*."""
        place = self._place.get(key)
        if place is None:
            return _error(404, "NoSuchKey", key)
        entry = self._entries[place]
        wanted = _header(head, b"if-match").strip(b'"').decode()
        if wanted not in ("", "*", entry.etag):
            return _error(412, "PreconditionFailed", key)
        body = self._body(entry)
        span = _header(head, b"range").removeprefix(b"bytes=")
        if not span:
            return b"HTTP/1.1 200 OK\r\n" + self._heads[place] + b"Content-Length: %d\r\n\r\n" % len(body), body
        start, stop = _span(span, len(body))
        if start >= stop:
            return _error(416, "InvalidRange", key)
        shown = b"Content-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n" % (
            start,
            stop - 1,
            len(body),
            stop - start,
        )
        return b"HTTP/1.1 206 Partial Content\r\n" + self._heads[place] + shown, body[start:stop]

    def listing(self, query: dict[str, str]) -> Answer:
        """One page, in the format of ListObjectsV2 or, without list-type=2, of ListObjects."""
        is_newer = query.get("list-type") == "2"
        after = query.get("continuation-token") or query.get("start-after", "") if is_newer else query.get("marker", "")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = min(int(query.get("max-keys") or _PAGE), _PAGE)
        first = max(bisect_right(self._keys, after) if after else 0, bisect_left(self._keys, prefix))
        last = max(first, bisect_left(self._keys, prefix + _BEHIND))
        if delimiter:
            parts, here, reached = self._folded(first, last, most, prefix=prefix, delimiter=delimiter, after=after)
        else:
            here = min(last, first + most)
            parts, reached = self._listed[first:here], self._keys[here - 1] if here else ""
        way_on = "NextContinuationToken" if is_newer else "NextMarker"
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="{_NAMESPACE}"><Name>{self.name}</Name>'
            f"<Prefix>{prefix}</Prefix><KeyCount>{len(parts)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<Delimiter>{delimiter}</Delimiter><IsTruncated>{str(here < last).lower()}</IsTruncated>"
            + (f"<{way_on}>{reached}</{way_on}>" if here < last else "")
        )
        return _document(text.encode() + b"".join(parts) + b"</ListBucketResult>")

    def _folded(
        self, here: int, last: int, most: int, *, prefix: str, delimiter: str, after: str
    ) -> tuple[list[bytes], int, str]:
        """At most *most* objects and folders from *here* on, the position after them, and the string reached."""
        parts: list[bytes] = []
        reached = ""
        while here < last and len(parts) < most:
            cut = self._keys[here].find(delimiter, len(prefix))
            if cut < 0:
                parts.append(self._listed[here])
                reached, here = self._keys[here], here + 1
                continue
            folder = self._keys[here][: cut + len(delimiter)]
            reached = folder + _BEHIND
            here = bisect_left(self._keys, reached)
            if not after.startswith(folder):
                parts.append(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>".encode())
        return parts, here, reached

    def _body(self, entry: Entry) -> memoryview:
        if entry.body not in self._bodies:
            with open(entry.body, "rb") as file:
                self._bodies[entry.body] = memoryview(
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if entry.size_bytes else b""
                )
        return self._bodies[entry.body]


def answer(buckets: dict[str, Bucket], line: bytes, headers: bytes) -> Answer:
    """The response to a request: a head, and a body.

    Args:
        line: its first line, without the line end.
        headers: in lower case, each between line ends.
    """
    method, name, key, query = _understood(line)
    if method not in ("GET", "HEAD"):
        return _error(405, "MethodNotAllowed", method)
    if not name:
        return _document(_all_buckets(buckets))
    if name not in buckets:
        return _error(404, "NoSuchBucket", name)
    if key:
        return buckets[name].get(key, headers)
    fields = {field: values[0] for field, values in parse_qs(query, keep_blank_values=True).items()}
    if "location" in fields:
        return _document(f'<LocationConstraint xmlns="{_NAMESPACE}"></LocationConstraint>'.encode())
    return buckets[name].listing(fields)


@lru_cache(maxsize=200_000)
def _understood(line: bytes) -> tuple[str, str, str, str]:
    """Method, bucket, key and query of a request's first line."""
    method, target, _ = line.decode("latin-1").split(" ", 2)
    url = urlsplit(target)
    name, _, key = unquote(url.path).lstrip("/").partition("/")
    return method, name, key, url.query


class Connection(asyncio.Protocol):
    """One client's connection: requests are answered one after the other, each after the latency."""

    def __init__(self, buckets: dict[str, Bucket], latency_seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._buckets = buckets
        self._latency = latency_seconds
        self._loop = loop
        self._received = b""
        self._is_answering = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        """More of a request, or of several."""
        self._received += data
        if not self._is_answering:
            self._next()

    def _next(self) -> None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head, self._received = self._received[: end + 2], self._received[end + 4 :]
        if self._latency:
            self._is_answering = True
            self._loop.call_later(self._latency, self._answer, head)
        else:
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        self._is_answering = False
        if self._transport.is_closing():
            return
        line, _, headers = head.partition(b"\r\n")
        headers = b"\r\n" + headers.lower()
        first, body = answer(self._buckets, line, headers)
        self._transport.write(first)
        if len(body) and not line.startswith(b"HEAD"):
            self._transport.write(body)
        if _header(headers, b"connection") == b"close":
            self._transport.close()
        else:
            self._next()


async def serve(buckets: dict[str, Bucket], *, port: int, latency_seconds: float, ready: Callable[[int], None]) -> None:
    """Serve on 127.0.0.1 until the process is terminated."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    server = await loop.create_server(
        partial(Connection, buckets, latency_seconds, loop), "127.0.0.1", port, backlog=1024
    )
    ready(server.sockets[0].getsockname()[1])
    await stopped.wait()
    server.close()


def _header(head: bytes, name: bytes) -> bytes:
    """The value of a header, in lower case; empty if there is none."""
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()


def _span(span: bytes, size: int) -> tuple[int, int]:
    first, _, last = span.partition(b"-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


def _object_head(entry: Entry) -> bytes:
    return (
        f'ETag: "{entry.etag}"\r\nLast-Modified: {entry.http_date}\r\nContent-Type: binary/octet-stream\r\n'
        "Accept-Ranges: bytes\r\nServer: bench\r\n"
    ).encode()


def _listed(entry: Entry) -> bytes:
    return (
        f"<Contents><Key>{entry.key}</Key><LastModified>{entry.iso_date}</LastModified>"
        f"<ETag>&quot;{entry.etag}&quot;</ETag><Size>{entry.size_bytes}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    ).encode()


def _all_buckets(buckets: dict[str, Bucket]) -> bytes:
    names = "".join(
        f"<Bucket><Name>{name}</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>" for name in buckets
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<ListAllMyBucketsResult xmlns="{_NAMESPACE}"><Owner><ID>bench</ID></Owner>'
        f"<Buckets>{names}</Buckets></ListAllMyBucketsResult>"
    ).encode()


def _document(text: bytes) -> Answer:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(text), text


def _error(status: int, code: str, what: str) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{what}</Message></Error>'.encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode(), text


def main() -> None:
    """Serve the buckets named on the command line; print the port once it listens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bucket", action="append", required=True, metavar="NAME=INDEX")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    given = parser.parse_args()
    buckets = {}
    for text in given.bucket:
        name, _, index = text.partition("=")
        buckets[name] = Bucket(name, read_index(Path(index)))
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    run = importlib.import_module("uvloop").run if has_uvloop else asyncio.run

    def ready(port: int) -> None:
        print(port, flush=True)
        sys.stdout.close()

    run(serve(buckets, port=given.port, latency_seconds=given.latency_ms / 1000, ready=ready))


if __name__ == "__main__":
    main()
