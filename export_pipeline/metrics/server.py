"""Serve metrics over HTTP for Prometheus."""

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from export_pipeline.errors import ExportError

PATH = "/metrics"
# Two Prometheus servers that scrape at the same time cost one reading of the ledger.
_KEPT_SECONDS = 5.0
# A client that sends nothing does not hold a thread for longer.
_CLIENT_SECONDS = 10.0


class Cache:
    """The text of the metrics, read again once it is older than a few seconds.

    Args:
        read: reads them; raises ExportError if it cannot. An error is not kept.
    """

    def __init__(self, read: Callable[[], str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._text = ""
        self._read_at: float | None = None

    def text(self) -> str:
        """The metrics, at most five seconds old."""
        with self._lock:
            if self._read_at is None or self._clock() - self._read_at >= _KEPT_SECONDS:
                self._text = self._read()
                self._read_at = self._clock()
            return self._text


class MetricsServer(ThreadingHTTPServer):
    """Answers ``GET /metrics``; with 503 while the ledger cannot be read, so that nobody takes old values for new.

    Args:
        host: address to listen on.
        port: 0: a free one.
        content_type: of the text.
        on_error: called with the reason for each 503.

    Raises:
        OSError: the address cannot be used.
    """

    daemon_threads = True

    def __init__(
        self, host: str, port: int, cache: Cache, *, content_type: str, on_error: Callable[[ExportError], None]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.cache = cache
        self.content_type = content_type
        self.on_error = on_error
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self.server_address[:2]
        host = str(host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _CLIENT_SECONDS

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self._answer(404, f"the metrics are at {PATH}\n", "text/plain; charset=utf-8")
            return
        try:
            text = self.server.cache.text()
        except ExportError as error:
            self.server.on_error(error)
            self._answer(503, "the metrics could not be read; the log says why\n", "text/plain; charset=utf-8")
            return
        self._answer(200, text, self.server.content_type)

    def _answer(self, status: int, text: str, content_type: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each scrape would hide the errors."""
