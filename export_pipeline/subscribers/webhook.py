"""POST every batch to a URL, signed as Standard Webhooks asks (https://www.standardwebhooks.com)."""

import binascii
from collections.abc import Mapping
from datetime import datetime, timezone

from pydantic import Field, field_validator

from export_pipeline.batching.batch import Batch
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import accept
from export_pipeline.subscribers.http_options import HttpClientOptions

RESERVED_HEADERS = frozenset({"content-encoding", "content-length", "content-type", "host", "transfer-encoding"})


class Webhook(HttpClientOptions):
    """Posts each batch as newline-delimited JSON, signed, with the batch's id in ``webhook-id``.

    A receiver that remembers the ids it has seen takes every event exactly once. The signature covers
    ``<webhook-id>.<webhook-timestamp>.<the NDJSON>``; with ``gzip`` it covers the text before compression, which is
    what a web server hands to its application.

    Answers: 2xx accepts; 408, 425, 429 and 5xx are tried again (``Retry-After`` is obeyed); 400, 413 and 422 refuse
    events, and the batch is halved until they are found; anything else blocks the subscriber until a person acts.
    """

    url: str = Field(
        description="Where to post. User and password in it are sent as basic authentication.",
        examples=["https://example.com/hooks/analytics"],
    )
    secret: str | None = Field(
        default=None,
        description="Signing secret: whsec_ and base64. Without it requests are not signed.",
        json_schema_extra=SECRET,
    )
    previous_secret: str | None = Field(
        default=None,
        description="The secret before, while receivers still know only that one; requests then bear both signatures.",
        json_schema_extra=SECRET,
    )
    headers: dict[str, str] = Field(default_factory=dict, description="More headers, by name.")
    secret_headers: dict[str, str] = Field(
        default_factory=dict,
        description="More headers whose values are secrets, such as Authorization.",
        json_schema_extra=SECRET,
    )
    gzip: bool = Field(default=False, description="Compress the body (Content-Encoding: gzip).")

    @field_validator("headers", "secret_headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.lower() in RESERVED_HEADERS or name.lower().startswith("webhook-"):
                raise ValueError(f"the header {name} is set by the subscriber itself")
        return value

    def deliver(self, batch: Batch) -> None:
        """Post the batch.

        Raises:
            TryLater, Blocked, Refused: as the answer says.
        """
        headers = {
            **self.headers,
            **self.secret_headers,
            **self._signed(batch, datetime.now(timezone.utc)),
            "content-type": "application/x-ndjson",
        }
        body = batch.data
        if self.gzip:
            from isal import igzip

            body = igzip.compress(body, mtime=0)
            headers["content-encoding"] = "gzip"
        answer = self._http.send(
            "POST",
            self.url,
            content=body,
            headers=headers,
            timeout_seconds=self.timeout_seconds,
            secrets=self.secret_values(),
            connections=self.connections,
        )
        accept(answer)

    def check(self) -> None:
        """Connect; whether the receiver takes events shows only a POST."""
        self._http.connect(self.url, timeout_seconds=self.timeout_seconds, connections=self.connections)

    def _signed(self, batch: Batch, now: datetime) -> Mapping[str, str]:
        """The headers of Standard Webhooks: the same id at every try, the time of this try, a signature a secret."""
        headers = {"webhook-id": batch.id, "webhook-timestamp": str(int(now.timestamp()))}
        secrets = [secret for secret in (self.secret, self.previous_secret) if secret]
        if secrets:
            text = batch.data.decode()
            headers["webhook-signature"] = " ".join(_sign(secret, batch.id, now, text) for secret in secrets)
        return headers


def _sign(secret: str, message_id: str, now: datetime, text: str) -> str:
    """``v1,<base64>`` over ``id.timestamp.text``."""
    from standardwebhooks import Webhook as Signer

    try:
        return str(Signer(secret).sign(msg_id=message_id, timestamp=now, data=text))
    except binascii.Error:
        raise Blocked("the signing secret is not whsec_ followed by base64") from None
