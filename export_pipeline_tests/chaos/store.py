"""A proxy before a real S3 server, which answers as S3 does on a bad day."""

import contextlib
import http.client
import os
import random
import re
import socket
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from typing_extensions import Self

ERRORS = {"503": "SlowDown", "500": "InternalError", "429": "TooManyRequests", "403": "AccessDenied"}
SLOW_SECONDS = 0.4
_DROPPED = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"})
_CONTENTS = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)


class FaultyStore:
    """Hands every request on to the server at *upstream*, unless it is the turn of a fault.

    Attributes:
        script: faults of the next requests, one each: an error's status, ``slow``, ``cut`` (reset half-way),
            ``short`` and ``long`` (a length that is not the body's).
        hiding: how many of the next listings miss a key that is there.
        happened: fault → how often it really was met.
    """

    def __init__(self, upstream: str, *, seed: int) -> None:
        self.upstream = urlsplit(upstream)
        self.script: deque[str] = deque()
        self.hiding = 0
        self.happened: dict[str, int] = {}
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = _Server(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def calm(self) -> None:
        """No more faults."""
        with self._lock:
            self.script.clear()
            self.hiding = 0

    def next_fault(self) -> str:
        """What happens to the next request; empty: nothing does."""
        with self._lock:
            fault = self.script.popleft() if self.script else ""
            if fault:
                self.happened[fault] = self.happened.get(fault, 0) + 1
            return fault

    def without_a_key(self, listing: bytes) -> bytes:
        """The listing, now and then without one of its keys."""
        with self._lock:
            found = list(_CONTENTS.finditer(listing))
            if not self.hiding or not found:
                return listing
            self.hiding -= 1
            self.happened["hidden"] = self.happened.get("hidden", 0) + 1
            # Of the last ones rather: what is new stands at the end.
            hidden = found[self._chance.randrange(max(0, len(found) - 4), len(found))]
            return listing[: hidden.start()] + listing[hidden.end() :]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed here all the time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    store: FaultyStore

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fault = self.store.next_fault()
        if fault in ERRORS:
            self._answer(int(fault), [], f"<Error><Code>{ERRORS[fault]}</Code></Error>".encode(), fault="")
            return
        if fault == "slow":
            threading.Event().wait(SLOW_SECONDS)
        upstream = self.store.upstream
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=30)
        with contextlib.closing(connection):
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        if self.command == "GET" and "list-type=2" in self.path:
            content = self.store.without_a_key(content)
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _DROPPED]
        length = int(answer.getheader("content-length") or 0) if self.command == "HEAD" else None
        self._answer(answer.status, kept, content, fault=fault, length=length)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, fault: str, length: int | None = None
    ) -> None:
        half = content[: len(content) // 2]
        told = len(content) if length is None else length
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str({"short": len(half), "long": told + 100}.get(fault, told)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(half if fault in ("cut", "short") else content)
        if fault in ("cut", "long"):
            self.wfile.flush()
            self.close_connection = True
        if fault == "cut":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
