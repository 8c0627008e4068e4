"""A receiver of Standard Webhooks: verifies every signature, and takes each webhook-id once."""

import gzip
import json
from collections.abc import Callable

from standardwebhooks import Webhook, WebhookVerificationError

from export_pipeline_tests.servers.http import Reply, Request, Server


class Receiver(Server):
    """What it holds is in :meth:`events`.

    Args:
        secret: what requests must be signed with; None: no signature is looked at.
        is_bad: an event for which this is true makes the whole request refused with 422.

    Attributes:
        taken: webhook-id → the events as NDJSON, each id once.
        repeats: how often a known id came again.
    """

    def __init__(self, secret: str | None, *, is_bad: Callable[[bytes], bool] = lambda line: False) -> None:
        super().__init__()
        self.secret = secret
        self.is_bad = is_bad
        self.taken: dict[str, bytes] = {}
        self.repeats = 0

    def events(self) -> list[bytes]:
        """The lines of all batches that were accepted, in the order in which they came."""
        return [line for data in self.taken.values() for line in data.split(b"\n")[:-1]]

    def answer(self, request: Request) -> Reply:
        if request.method != "POST":
            return Reply(405, b"POST only")
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        if self.secret is not None:
            try:
                Webhook(self.secret).verify(body, dict(request.headers), json_parse=False)
            except WebhookVerificationError as error:
                return Reply(401, str(error).encode())
        if request.headers.get("content-type") == "application/json":
            body = as_ndjson(body)
        elif request.headers.get("content-type") != "application/x-ndjson" or not body.endswith(b"\n"):
            return Reply(415, b"JSON or NDJSON only")
        if any(self.is_bad(line) for line in body.split(b"\n")[:-1]):
            return Reply(422, b"there is a bad event")
        message_id = request.headers["webhook-id"]
        if message_id in self.taken:
            self.repeats += 1
        elif self.taken.setdefault(message_id, body) != body:
            return Reply(500, b"one id for two bodies")
        return Reply(204)


# Values are looked at for where they end only.
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str)


def as_ndjson(body: bytes) -> bytes:
    """The events of a body that is an array, or an object that ends with one, each as it was sent."""
    text = body.decode().removeprefix('{"type":"events","data":')
    lines: list[str] = []
    end = 0
    while text[end] in "[,":
        start = end + 1
        end = _DECODER.raw_decode(text, start)[1]
        lines.append(text[start:end])
    assert text[end:] == ("]" if body.startswith(b"[") else "]}")
    return "".join(f"{line}\n" for line in lines).encode()
