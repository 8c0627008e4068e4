"""A receiver that accepts everything at once, in a separate process; its argument is a folder to work in.

It prints its addresses as one line of JSON, and ends when its standard input does. It responds like Segment, Mixpanel,
Amplitude, PostHog, OpenSearch, Kinesis, Firehose and SQS, and keeps nothing. Kafka's broker is the one that librdkafka
ships for tests, ClickHouse the engine of chdb, PostgreSQL a separate server.
"""

import asyncio
import contextlib
import gzip
import hashlib
import json
import sys
import threading
from pathlib import Path

from export_pipeline_tests.servers.clickhouse import ClickhouseServer
from export_pipeline_tests.servers.kafka import KafkaCluster
from export_pipeline_tests.servers.postgres import postgres_server

TOPIC, USER, PASSWORD = "events", "bench", "none"


class Receiver(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received: list[bytes] = []
        self.wanted = 0
        self.size = 0

    def data_received(self, data: bytes) -> None:
        """Collect a request, and answer each that is whole."""
        self.received.append(data)
        self.size += len(data)
        while self.size and self.size >= self.wanted:
            whole = b"".join(self.received)
            head, end, _ = whole.partition(b"\r\n\r\n")
            if not end:
                return
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            }
            if headers.get(b"expect", b"").lower() == b"100-continue" and len(whole) == len(head) + 4:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wanted = len(head) + 4 + int(headers.get(b"content-length", b"0"))
            if len(whole) < self.wanted:
                self.received = [whole]
                return
            body = whole[len(head) + 4 : self.wanted]
            if headers.get(b"content-encoding") == b"gzip":
                body = gzip.decompress(body)
            told = answer(head.split(b" ", 2)[1], headers.get(b"x-amz-target", b""), body)
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(told) + told
            )
            self.received = [whole[self.wanted :]]
            self.size, self.wanted = len(self.received[0]), 0


def answer(target: bytes, action: bytes, body: bytes) -> bytes:
    """What the destination that is meant says of a request that it has taken."""
    action = action.rpartition(b".")[2]
    if target.startswith(b"/_bulk"):
        count = body.count(b"\n") // 2
        return b'{"took":1,"errors":false,"items":[' + b",".join([b'{"create":{"status":201}}'] * count) + b"]}"
    if target == b"/":
        if action == b"SendMessageBatch":
            sent = [
                {
                    "Id": one["Id"],
                    "MessageId": one["Id"],
                    "MD5OfMessageBody": hashlib.md5(one["MessageBody"].encode()).hexdigest(),
                }
                for one in json.loads(body)["Entries"]
            ]
            return json.dumps({"Successful": sent}).encode()
        if action == b"PutRecords":
            records = [{"SequenceNumber": "1", "ShardId": "s"}] * body.count(b'"Data"')
            return json.dumps({"FailedRecordCount": 0, "Records": records}).encode()
        if action == b"PutRecordBatch":
            return json.dumps(
                {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"}] * body.count(b'"Data"')}
            ).encode()
        return b'{"version":{"distribution":"opensearch","number":"3.3.0"}}'
    return b'{"status":1,"success":true,"code":200}'


async def _serve(addresses: dict[str, str]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0)
    addresses["http"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps(addresses), flush=True)
    ended = asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    folder = Path(sys.argv[1])
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(KafkaCluster())
        cluster.create(TOPIC)
        clickhouse = stack.enter_context(ClickhouseServer(str(folder / "clickhouse"), USER, PASSWORD))
        clickhouse.query("CREATE TABLE events (event_type String) ENGINE = Null")
        postgres = stack.enter_context(postgres_server(folder / "postgres"))
        addresses = {
            "kafka": cluster.bootstrap,
            "clickhouse": clickhouse.url,
            "postgres": postgres.replace("export@", f"export:{PASSWORD}@"),
        }
        asyncio.run(_serve(addresses))


if __name__ == "__main__":
    main()
