"""httpx2's transport with a deadline for the whole response: 1xx responses, the head, and the body.

httpx2 has timeouts of single reads only, so that a server which sends a byte from time to time could hold a request
indefinitely.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any

import httpcore2
import httpx2
from typing_extensions import Self

_PIECE_BYTES = 256 * 1024
_KINDS: dict[type[Exception], type[httpx2.TransportError]] = {
    httpcore2.ConnectTimeout: httpx2.ConnectTimeout,
    httpcore2.ReadTimeout: httpx2.ReadTimeout,
    httpcore2.WriteTimeout: httpx2.WriteTimeout,
    httpcore2.PoolTimeout: httpx2.PoolTimeout,
    httpcore2.ConnectError: httpx2.ConnectError,
    httpcore2.ReadError: httpx2.ReadError,
    httpcore2.WriteError: httpx2.WriteError,
    httpcore2.ProxyError: httpx2.ProxyError,
    httpcore2.UnsupportedProtocol: httpx2.UnsupportedProtocol,
    httpcore2.LocalProtocolError: httpx2.LocalProtocolError,
    httpcore2.RemoteProtocolError: httpx2.RemoteProtocolError,
}


class DeadlineTransport(httpx2.BaseTransport):
    """Sends requests over its own connections, directly or through one proxy.

    Args:
        tls: for servers, and for a proxy that uses https.
        proxy_url: the proxy; None: connect directly.

    Raises:
        ValueError: the proxy's URL has an invalid scheme.
    """

    def __init__(self, tls: SSLContext, proxy_url: str | None = None) -> None:
        self._pool = _pool(tls, proxy_url)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send *request*, like httpx2's own transport."""
        asked = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = self._pool.handle_request(asked)
        body: Any = answer.stream
        return httpx2.Response(
            status_code=answer.status, headers=answer.headers, stream=_Body(body), extensions=answer.extensions
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


def _pool(tls: SSLContext, proxy_url: str | None) -> httpcore2.ConnectionPool:
    backend = _Backend()
    options: dict[str, Any] = {"ssl_context": tls, "max_connections": None, "network_backend": backend}
    if proxy_url is None:
        return httpcore2.ConnectionPool(**options)
    proxy = httpx2.Proxy(proxy_url)
    address = httpcore2.URL(
        scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
    )
    if proxy.url.scheme in ("socks5", "socks5h"):
        return httpcore2.SOCKSProxy(proxy_url=address, proxy_auth=proxy.raw_auth, **options)
    return httpcore2.HTTPProxy(
        proxy_url=address,
        proxy_auth=proxy.raw_auth,
        proxy_ssl_context=tls if proxy.url.scheme == "https" else None,
        **options,
    )


class _Body(httpx2.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except tuple(_KINDS) as error:
        raise _KINDS[type(error)](str(error)) from error


class _Backend(httpcore2.NetworkBackend):
    """httpcore2's backend, with streams that have a deadline."""

    def __init__(self) -> None:
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore2.NetworkStream:
        return _Stream(self._plain.connect_tcp(host, port, *args, **options))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    """A stream in which the timeout of the first read after a request covers all reads until the next request."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._deadline: float | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if timeout is None:
            return self._stream.read(max_bytes)
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + timeout
        left = self._deadline - now
        if left <= 0:
            raise httpcore2.ReadTimeout("the response took longer than the timeout")
        return self._stream.read(max_bytes, min(left, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._deadline = None
        view = memoryview(buffer)
        for start in range(0, len(view), _PIECE_BYTES):
            # The timeout applies to each piece, so that a large request over a slow connection does not fail.
            self._stream.write(view[start : start + _PIECE_BYTES], timeout)  # type: ignore[arg-type]

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **options: Any) -> Self:
        return type(self)(self._stream.start_tls(*args, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
