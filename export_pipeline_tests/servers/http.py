"""A real HTTP server on loopback that a test can make fail in every way a network can."""

import contextlib
import json
import os
import socket
import ssl
import struct
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import Self


@dataclass(frozen=True)
class Request:
    """What arrived, header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The URL's query: name → its first value."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


def loads(text: bytes) -> Any:
    """JSON as a destination reads it, which has no limit for digits as Python has."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 4_000 else float(digits))


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Silence:
    """No answer for so long; then the connection is closed."""

    seconds: float = 30.0


@dataclass(frozen=True)
class Drip:
    """An answer of one byte a pause, for ever."""

    pause_seconds: float = 0.05


@dataclass(frozen=True)
class DripBefore:
    """No answer, for ever: of its ``head`` one byte a pause, or one ``1xx`` answer after another."""

    what: str
    pause_seconds: float = 0.05


@dataclass(frozen=True)
class ResetWhileReading:
    """The connection is reset when half of the request has been read; the request has no effect."""


@dataclass(frozen=True)
class ResetWhileAnswering:
    """The request takes effect, but the connection is reset half-way through the answer."""


Fault = Reply | Silence | Drip | DripBefore | ResetWhileReading | ResetWhileAnswering


class Server:
    """Answers each request with :meth:`answer`, unless a fault comes first.

    Attributes:
        requests: all that arrived whole, in order.
        script: faults for the next requests, one each; None lets one through.
        standing: a fault for every request while it is set.
        connections: how many were opened.
        tls: set before the server starts, makes it one of HTTPS.
        dripped: how many pieces were sent before answers that never came.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: deque[Fault | None] = deque()
        self.standing: Fault | None = None
        self.connections = 0
        self.tls: ssl.SSLContext | None = None
        self.dripped = 0
        self.lock = threading.Lock()
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def answer(self, request: Request) -> Reply:
        """What a working destination answers; called under the lock."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        assert self._server is not None
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"server_of_test": self})
        self._server = _ThreadingServer(("127.0.0.1", 0), handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self) -> Fault | None:
        with self.lock:
            if self.script:
                return self.script.popleft()
            return self.standing

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than the server lives."""
        self._closing.wait(seconds)

    @property
    def closing(self) -> bool:
        return self._closing.is_set()


class _ThreadingServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A disconnected client is ignored; all other errors are reported as usual."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_test: Server
    # Head and body leave in one packet; otherwise each answer waits 40 ms for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.server_of_test.lock:
            self.server_of_test.connections += 1

    def handle_any(self) -> None:
        server = self.server_of_test
        fault = server.next_fault()
        length = int(self.headers.get("content-length") or 0)
        if isinstance(fault, ResetWhileReading):
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self._chunked() if self.headers.get("transfer-encoding") == "chunked" else self.rfile.read(length)
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        with server.lock:
            server.requests.append(request)
        if isinstance(fault, Silence):
            server.wait(fault.seconds)
            self.close_connection = True
            return
        if isinstance(fault, Reply):
            self._reply(fault)
            return
        if isinstance(fault, Drip):
            self._drip(fault)
            return
        if isinstance(fault, DripBefore):
            self._drip_before(fault)
            return
        with server.lock:
            reply = server.answer(request)
        if isinstance(fault, ResetWhileAnswering):
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
            self.wfile.flush()
            self._reset()
            return
        self._reply(reply)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = handle_any  # noqa: N815

    def _reply(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _drip(self, drip: Drip) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server_of_test.closing:
                self.wfile.write(b".")
                self.wfile.flush()
                self.server_of_test.wait(drip.pause_seconds)
        self.close_connection = True

    def _drip_before(self, drip: DripBefore) -> None:
        piece = b"HTTP/1.1 102 Processing\r\n\r\n" if drip.what == "1xx" else b"x"
        with contextlib.suppress(OSError):
            if drip.what == "head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
            while not self.server_of_test.closing:
                self.wfile.write(piece)
                self.wfile.flush()
                self.server_of_test.dripped += 1
                self.server_of_test.wait(drip.pause_seconds)
        self.close_connection = True

    def _chunked(self) -> bytes:
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _reset(self) -> None:
        """Close with RST, as a crashed host or a middlebox does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
