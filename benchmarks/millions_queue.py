"""A fast queue for benchmarks that speaks SQS's protocol on loopback: ``-m benchmarks.millions_queue``.

It supports ReceiveMessage, DeleteMessageBatch, and Arrive, which adds the messages of one minute of
:mod:`benchmarks.millions_world`. moto's server, used to test correctness, scans all its messages for each one it
returns.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

from benchmarks.millions_world import BUCKET, PREFIX, messages_of
from benchmarks.serving import ACCESS_KEY, REGION, ROOT, SECRET_KEY
from export_pipeline.source.queue import NotificationQueue
from export_pipeline.source.settings import SourceSettings

_POLL_SECONDS = 0.02


class _Queue:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: deque[tuple[str, str]] = deque()
        self.taken: dict[str, str] = {}
        self.sent = 0
        self.counts = {"ReceiveMessage": 0, "DeleteMessageBatch": 0}

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        if operation == "Arrive":
            bodies = messages_of(asked["minute"])
            with self.lock:
                for body in bodies:
                    self.sent += 1
                    self.waiting.append((f"00000000-0000-0000-0000-{self.sent:012}", body))
            return {"messages": len(bodies)}
        if operation == "Counts":
            return {**self.counts, "left": len(self.waiting) + len(self.taken)}
        with self.lock:
            self.counts[operation] += 1
        return self._receive(asked) if operation == "ReceiveMessage" else self._delete(asked)

    def _receive(self, asked: dict[str, Any]) -> dict[str, Any]:
        until = time.monotonic() + asked.get("WaitTimeSeconds", 0)
        while not self.waiting and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        found: list[dict[str, str]] = []
        with self.lock:
            while self.waiting and len(found) < asked.get("MaxNumberOfMessages", 1):
                identity, body = self.waiting.popleft()
                handle = f"AQEB{identity}{'x' * 300}"  # about as long as SQS's
                self.taken[handle] = body
                found.append({"MessageId": identity, "ReceiptHandle": handle, "MD5OfBody": "", "Body": body})
        return {"Messages": found} if found else {}

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            for entry in asked["Entries"]:
                self.taken.pop(entry["ReceiptHandle"], None)
        return {"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]], "Failed": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    queue: _Queue
    # A response's head and body in one packet, or each waits for the other side's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer one request."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        body = json.dumps(self.queue.answer(operation, asked)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""


@contextmanager
def queue_of_messages() -> Iterator[NotificationQueue]:
    """The server in a separate process, and one of its queues, opened as a run opens it."""
    command = [sys.executable, "-m", "benchmarks.millions_queue"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
        told = {"queue_url": f"{endpoint}/123456789012/{BUCKET}"}
        settings = SourceSettings.model_validate(
            {"url": f"s3://{BUCKET}/{PREFIX}", **login_at(endpoint), "notifications": told}
        )
        with closing(NotificationQueue(settings)) as queue:
            yield queue
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def login_at(endpoint: str) -> dict[str, str]:
    """The settings of a store at *endpoint*."""
    return {
        "endpoint_url": endpoint,
        "region_name": REGION,
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
    }


def control(queue_url: str, operation: str, **asked: int) -> dict[str, int]:
    """Request what SQS does not have: Arrive (minute) or Counts."""
    headers = {"X-Amz-Target": f"Benchmark.{operation}"}
    answer = httpx2.post(queue_url, json=asked, headers=headers, timeout=60)
    found: dict[str, int] = answer.raise_for_status().json()
    return found


def main() -> None:
    """Print the port, and serve until terminated."""
    _Handler.queue = _Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
