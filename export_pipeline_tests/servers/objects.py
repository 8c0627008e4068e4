"""A small, fast store that speaks enough of S3 to be read, and misbehaves on demand.

Correctness is tested against real servers (:mod:`export_pipeline_tests.servers.s3`); this one gives what they cannot be
asked for: latency, bodies that end too soon, objects replaced between two requests, 503 twice and then an answer.
As a program it prints its URL and serves made-up files, for measuring.
"""

import argparse
import asyncio
import hashlib
import random
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

from typing_extensions import Self

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_REASONS = {200: "OK", 206: "Partial Content", 403: "Forbidden", 404: "Not Found", 412: "Precondition Failed"}
_TIME = "2026-11-23T00:00:00.000Z"
_HTTP_TIME = "Mon, 23 Nov 2026 00:00:00 GMT"


@dataclass
class Request:
    """What was asked."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class Fault:
    """A faulty response to one request.

    Attributes:
        status: answer with this instead of the object.
        cut_after_bytes: close the connection after so many bytes of the body, while Content-Length promises all.
        claimed_length: the Content-Length that is claimed and delivered, from the beginning of the body.
        stall_seconds: wait in the middle of the body.
    """

    status: int | None = None
    cut_after_bytes: int | None = None
    claimed_length: int | None = None
    stall_seconds: float = 0.0


@dataclass
class ObjectServer:
    """A store of one bucket, named ``bkt``, on a free port of 127.0.0.1. A context manager.

    Attributes:
        objects: key → content; may be changed at any time.
        latency_seconds: added to each answer.
        fault: called with each request before it is answered.
        requests: all that came, in order.
        page_keys: how many keys one page of a listing has.
        sorts: list in the order of keys, as S3 does.
        tls: speak HTTPS with these certificates.
        most_at_once: the largest number of requests that were under way together.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    latency_seconds: float = 0.0
    fault: Callable[[Request], Fault | None] = lambda request: None
    requests: list[Request] = field(default_factory=list)
    page_keys: int = 1_000
    sorts: bool = True
    tls: ssl.SSLContext | None = None
    url: str = ""
    most_at_once: int = 0
    _at_once: int = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="object-server")
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20, ssl=self.tls)
        )
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        self._loop.run_forever()
        server.close()
        # Streams report each connection that is cancelled before it began.
        self._loop.set_exception_handler(lambda *_: None)
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            # The client is gone, or the server ends. Streams log a cancelled task as an error.
            return
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = _parse((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            fault = self.fault(request) or Fault()
            status, headers, body = self._reply(request) if fault.status is None else (fault.status, {}, b"<Error/>")
            length = len(body) if fault.claimed_length is None else fault.claimed_length
            lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", f"content-length: {length}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            half = length // 2 if fault.stall_seconds else length
            end = length if fault.cut_after_bytes is None else fault.cut_after_bytes
            writer.write(body[: min(half, end)])
            if fault.stall_seconds:
                await writer.drain()
                await asyncio.sleep(fault.stall_seconds)
                writer.write(body[half:end])
            await writer.drain()
            return fault.cut_after_bytes is None
        finally:
            self._at_once -= 1

    def _reply(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        if "list-type" in request.query:
            return 200, {"content-type": "application/xml"}, self._list(request.query)
        body = self.objects.get(request.key)
        if body is None:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        etag = etag_of(body)
        headers = {"etag": f'"{etag}"', "last-modified": _HTTP_TIME}
        if request.headers.get("if-match", f'"{etag}"').strip('"') != etag:
            return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
        if match := _RANGE.match(request.headers.get("range", "")):
            start, stop = int(match[1]), min(int(match[2]) + 1, len(body))
            return 206, {**headers, "content-range": f"bytes {start}-{stop - 1}/{len(body)}"}, body[start:stop]
        return 200, headers, body

    def _list(self, query: dict[str, str]) -> bytes:
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = [
            key
            for key in (sorted(self.objects) if self.sorts else self.objects)
            if key > after and key.startswith(query.get("prefix", ""))
        ]
        page = keys[: self.page_keys]
        entries = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>{_TIME}</LastModified>"
            f"<ETag>&quot;{etag_of(self.objects[key])}&quot;</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        more = len(keys) > len(page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
            "</ListBucketResult>"
        ).encode()


@lru_cache(maxsize=10_000)
def etag_of(body: bytes) -> str:
    """As S3 makes it for an object that was uploaded at once."""
    return hashlib.md5(body).hexdigest()


def _parse(head: str) -> Request:
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    path, _, query = target.partition("?")
    headers = dict(line.split(": ", 1) for line in lines)
    key = unquote(path.removeprefix("/bkt").removeprefix("/"))
    parsed = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    return Request(method, key, parsed, {name.lower(): value for name, value in headers.items()})


def main() -> None:
    """Serve made-up files until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--bytes", type=int, default=10_000)
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    options = parser.parse_args()
    block = random.Random(1).randbytes(1_000_000)
    content = (block * (options.bytes // len(block) + 1))[: options.bytes]
    objects = {f"p/2026/11/23/{n:07}.gz": content for n in range(options.files)}
    with ObjectServer(objects, options.latency_seconds) as server:
        print(server.url, flush=True)
        input()


if __name__ == "__main__":
    main()
