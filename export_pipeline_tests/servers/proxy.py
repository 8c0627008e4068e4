"""A proxy on loopback: HTTP (CONNECT, and absolute targets) and SOCKS 5, with what went through it."""

import base64
import socket
import threading
from types import TracebackType
from urllib.parse import urlsplit

from typing_extensions import Self


class Proxy:
    """Leads every request to *target*, whatever host is asked for.

    Attributes:
        asked: host and port of each connection that was asked for, and the credentials shown.
    """

    def __init__(self, target: str, *, socks: bool = False) -> None:
        parts = urlsplit(target)
        self.target = (parts.hostname or "", parts.port or 80)
        self.socks = socks
        self.asked: list[tuple[str, str]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        """Host and port that it listens on."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server:
            try:
                first = self._greet_socks(client) if self.socks else self._greet_http(client)
                server.sendall(first)
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()
            except (OSError, ValueError, IndexError):
                return  # the connection broke, or was closed before anything was asked for

    def _greet_http(self, client: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                raise ConnectionError
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        shown = next((line for line in lines if line.lower().startswith("proxy-authorization: basic ")), "")
        self.asked.append((lines[0].split()[1], base64.b64decode(shown.rpartition(" ")[2]).decode()))
        if lines[0].startswith("CONNECT "):
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            return rest
        return data

    def _greet_socks(self, client: socket.socket) -> bytes:
        _, count = client.recv(2)
        client.recv(count)
        client.sendall(b"\x05\x00")
        _, _, _, kind = client.recv(4)
        host = client.recv(client.recv(1)[0]).decode() if kind == 3 else socket.inet_ntoa(client.recv(4))
        self.asked.append((f"{host}:{int.from_bytes(client.recv(2), 'big')}", ""))
        client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return b""


def _copy(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        return
