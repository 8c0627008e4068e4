"""Moto's server, and before it a proxy that fails as AWS does: whole requests, and single records of a request."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2
from moto.server import ThreadedMotoServer

from export_pipeline_tests.servers.http import Reply, Request, Server

RECORDS = {"PutRecords": "Records", "PutRecordBatch": "RequestResponses"}


class AwsServer(Server):
    """Passes requests on to moto.

    Attributes:
        throttled: for each record of a put, whether this one is not taken; called with its bytes.
    """

    def __init__(self, moto_url: str) -> None:
        super().__init__()
        self.moto_url = moto_url
        self.throttled: Callable[[bytes], bool] = lambda record: False
        self.client = httpx2.Client()

    def answer(self, request: Request) -> Reply:
        target = request.headers.get("x-amz-target", "").rpartition(".")[2]
        if target in RECORDS:
            return self._put(request, RECORDS[target])
        return self._pass_on(request, request.body)

    def _put(self, request: Request, key: str) -> Reply:
        asked = json.loads(request.body)
        held_back = [self.throttled(base64.b64decode(record["Data"])) for record in asked["Records"]]
        taken = [record for record, held in zip(asked["Records"], held_back, strict=True) if not held]
        answers: list[dict[str, Any]] = []
        if taken:
            reply = self._pass_on(request, json.dumps({**asked, "Records": taken}).encode())
            if reply.status != 200:
                return reply
            answers = json.loads(reply.body)[key]
        error = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard"}
        merged = [error if held else answers.pop(0) for held in held_back]
        count = {"PutRecords": "FailedRecordCount"}.get(request.headers["x-amz-target"].rpartition(".")[2])
        told = {count or "FailedPutCount": sum(held_back), key: merged}
        return Reply(200, json.dumps(told).encode(), {"content-type": "application/x-amz-json-1.1"})

    def _pass_on(self, request: Request, body: bytes) -> Reply:
        headers = {k: v for k, v in request.headers.items() if k not in ("content-length", "connection", "host")}
        answer = self.client.request(request.method, self.moto_url + request.target, content=body, headers=headers)
        return Reply(answer.status_code, answer.content, {"content-type": answer.headers.get("content-type", "")})

    def __exit__(self, *exit: Any) -> None:
        super().__exit__(*exit)
        self.client.close()


def start_moto() -> tuple[ThreadedMotoServer, str]:
    """A running server, to be stopped by the caller, and its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return server, f"http://{host}:{port}"


def aws_error(code: str, status: int = 400) -> Reply:
    """An error as the JSON protocol of AWS has it."""
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": f"this is {code}"}).encode()
    return Reply(status, body, {"content-type": "application/x-amz-json-1.1"})
