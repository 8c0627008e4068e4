"""Starts the benchmark's S3 server, and shows that it is not the bottleneck."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
ACCESS_KEY = "benchmark"
SECRET_KEY = "benchmark-secret"
REGION = "us-east-1"
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        endpoint: its URL.
        pid: its process.
    """

    endpoint: str
    pid: int


@contextmanager
def serving(
    buckets: Mapping[str, Path], *, latency_ms: float = 0, python: str | Path = sys.executable
) -> Iterator[Server]:
    """Serve *buckets* (name → index) on a free port until the block exits.

    Args:
        latency_ms: delay of each response.
        python: an interpreter, preferably of an environment with uvloop.
    """
    command = [str(python), "-m", "benchmarks.server", f"--latency-ms={latency_ms}"]
    command += [f"--bucket={name}={index}" for name, index in buckets.items()]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with code {process.wait()}")
        yield Server(f"http://127.0.0.1:{int(line)}", process.pid)
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def login(server: Server) -> dict[str, str]:
    """The environment variables with which AWS's own libraries find the server."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def answers_per_second(server: Server, bucket: str, keys: Sequence[str], *, seconds: float = 2) -> float:
    """How many GETs of whole objects the server answers, to one client on 16 connections.

    Raises:
        RuntimeError: a response was not 200.
    """
    host, port = urlsplit(server.endpoint).netloc.split(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(_CONNECTIONS)]
    requests = [f"GET /{bucket}/{key} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for key in keys]
    count, began = 0, time.perf_counter()
    buffer = bytearray(1 << 20)
    while time.perf_counter() < began + seconds:
        for one in sockets:
            one.sendall(requests[count % len(requests)])
            count += 1
        for one in sockets:
            _receive(one, buffer)
    elapsed = time.perf_counter() - began
    for one in sockets:
        one.close()
    return count / elapsed


def _receive(one: socket.socket, buffer: bytearray) -> None:
    received = one.recv_into(buffer)
    head_end = buffer.find(b"\r\n\r\n", 0, received) + 4
    head = bytes(buffer[:head_end])
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {bytes(buffer[:received][:100])!r}")
    length = int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n", 1)[0])
    missing = head_end + length - received
    while missing > 0:
        missing -= one.recv_into(buffer)
