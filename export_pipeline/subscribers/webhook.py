"""POST every batch to a URL, signed according to Standard Webhooks (https://www.standardwebhooks.com)."""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Literal, TypeGuard

from dagster import EnvVar
from pydantic import Field, field_validator

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import Answer
from export_pipeline.subscribers.http_options import IdempotentOptions

RESERVED_HEADERS = frozenset({"content-encoding", "content-length", "content-type", "host", "transfer-encoding"})

PREFIX = "whsec_"
MIN_KEY_BYTES = 24
NOT_BASE64 = "the signing secret is not whsec_ followed by base64"
REMEDY = "create one with: echo whsec_$(openssl rand -base64 32)"


class Webhook(IdempotentOptions):
    """Posts each batch as a JSON array of its events, signed, with the batch's id in ``webhook-id``.

    A receiver that remembers the ids it has seen processes every event exactly once. The signature covers
    ``<webhook-id>.<webhook-timestamp>.<body>``; with ``gzip`` it covers the text before compression, which is what a
    web server passes to its application. [Receivers](webhooks.md) in Python and JavaScript can use the reference
    libraries of Standard Webhooks; these parse the body as one JSON document, so ``body: ndjson`` is for receivers
    that verify signatures without them.

    Responses: 2xx accepts; 408, 425, 429 and 5xx are retried (``Retry-After`` is respected); 400, 413 and 422 refuse
    events, and the batch is halved until they are found; anything else blocks the subscriber until you fix the cause.
    """

    url: str = Field(
        description="Where to post. User and password in it are sent as basic authentication.",
        examples=["https://example.com/hooks/analytics"],
    )
    secret: str | None = Field(
        default=None,
        description="Signing secret: whsec_ and the base64 of 24 to 64 random bytes. Without it requests are not "
        "signed.",
        json_schema_extra=SECRET,
    )
    previous_secret: str | None = Field(
        default=None,
        description="The previous secret, during a rotation: requests then have both signatures.",
        json_schema_extra=SECRET,
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Additional headers, by name.")
    secret_headers: dict[str, str] = Field(
        default_factory=dict,
        description="Additional headers whose values are secrets, such as Authorization.",
        json_schema_extra=SECRET,
    )
    body: Literal["ndjson", "array", "object"] = Field(
        default="array",
        description='Format of the body. array: [events]; object: {"type": "events", "data": [events]}; ndjson: one '
        "event per line.",
    )
    gzip: bool = Field(default=False, description="Compress the body (Content-Encoding: gzip).")

    @field_validator("headers", "secret_headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.lower() in RESERVED_HEADERS or name.lower().startswith("webhook-"):
                raise ValueError(f"the header {name} is set by the subscriber itself")
        return value

    def deliver(self, batch: Batch) -> Receipt | None:
        """Post the batch.

        Raises:
            TryLater, Blocked, Refused: according to the response.
        """
        plain = self._body(batch)
        headers = {
            **self.headers,
            **self.secret_headers,
            **self._signed(batch.id, plain, datetime.now(timezone.utc)),
            "content-type": "application/x-ndjson" if self.body == "ndjson" else "application/json",
        }
        body = plain
        if self.gzip:
            from isal import igzip

            body = igzip.compress(plain, mtime=0)
            headers["content-encoding"] = "gzip"

        def send() -> Answer:
            return self._http.send(
                "POST",
                self.url,
                content=body,
                headers=headers,
                timeout_seconds=self.timeout_seconds,
                secrets=self.secret_values(),
                connections=self.connections,
            )

        if self.settle(batch.id, send) is None:
            return Receipt(detail=f"batch {batch.id} was accepted before")
        return None

    def check(self) -> None:
        """Connect, and check the secrets: whether the receiver accepts events, only a POST shows.

        Raises:
            TryLater, Blocked: the connection fails, or a secret is invalid, or so short that it could be guessed.
        """
        for name in ("secret", "previous_secret"):
            secret = getattr(self, name)
            if secret and not _is_base64(secret):
                raise Blocked(f"{name}: {NOT_BASE64}")
            if secret and (length := len(_key(secret))) < MIN_KEY_BYTES:
                raise Blocked(f"{name} has {length} bytes; Standard Webhooks requires {MIN_KEY_BYTES} to 64: {REMEDY}")
        self._connect()

    def check_once(self) -> None:
        """Connect only: a secret that is too short is not a reason to hold events back."""
        if not self._is_checked:
            self._connect()
            self._is_checked = True

    def secret_values(self) -> tuple[str, ...]:
        """Includes the secrets without ``whsec_``, because a receiver may echo them."""
        bare = [secret.removeprefix(PREFIX) for secret in (self.secret, self.previous_secret) if _is_known(secret)]
        return (*super().secret_values(), *bare)

    def _connect(self) -> None:
        self._http.connect(self.url, timeout_seconds=self.timeout_seconds, connections=self.connections)

    def _body(self, batch: Batch) -> bytes:
        if self.body == "ndjson":
            return batch.data
        # Events contain no line feeds: in strings they are escaped.
        array = b"[" + batch.data[:-1].replace(b"\n", b",") + b"]"
        return array if self.body == "array" else b'{"type":"events","data":' + array + b"}"

    def _signed(self, batch_id: str, body: bytes, now: datetime) -> Mapping[str, str]:
        """The headers of Standard Webhooks: the same id in every attempt, its time, and a signature per secret."""
        headers = {"webhook-id": batch_id, "webhook-timestamp": str(int(now.timestamp()))}
        secrets = [secret for secret in (self.secret, self.previous_secret) if secret]
        if secrets:
            text = body.decode()
            headers["webhook-signature"] = " ".join(_sign(secret, batch_id, now, text) for secret in secrets)
        return headers


def _is_known(secret: str | None) -> TypeGuard[str]:
    return secret is not None and not isinstance(secret, EnvVar)


def _key(secret: str) -> bytes:
    """The key bytes of *secret*."""
    try:
        return base64.b64decode(secret.removeprefix(PREFIX))
    except binascii.Error:
        raise Blocked(NOT_BASE64) from None


def _is_base64(secret: str) -> bool:
    """Whether every receiver decodes *secret* to the same key: Python, and so a delivery, skips foreign characters."""
    try:
        base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        return False
    return True


def _sign(secret: str, message_id: str, now: datetime, text: str) -> str:
    """The signature ``v1,<base64>`` of ``id.timestamp.text``."""
    from standardwebhooks import Webhook as Signer

    try:
        return str(Signer(secret).sign(msg_id=message_id, timestamp=now, data=text))
    except binascii.Error:
        raise Blocked(NOT_BASE64) from None
