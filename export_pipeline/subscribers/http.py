"""Send events to any HTTP API that accepts JSON, if there is no specific subscriber for it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers import paths
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import Answer, accept
from export_pipeline.subscribers.http_options import IdempotentOptions
from export_pipeline.subscribers.mapping import compile_mapping, to_json
from export_pipeline.subscribers.mapping_compiler import Call
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.requests import HttpRequestSubscriber


class Http(IdempotentOptions, HttpRequestSubscriber):
    """Sends events to any HTTP API, as newline-delimited JSON, as an array, or as an object that contains an array.

    Status codes have the usual meaning: 2xx accepts; 408, 425, 429 and 5xx are retried (``Retry-After`` is respected);
    400, 413 and 422 refuse events, and the request is halved until they are found; anything else blocks. If the API
    reports more in the response body, read it with ``success_path`` and ``errors_path``.
    """

    url: str = Field(
        description="Where to send; {id} is replaced by the id of the request.",
        examples=["https://api.example.com/v1/events"],
    )
    method: Literal["POST", "PUT", "PATCH"] = Field(default="POST", description="HTTP method.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers, by name.")
    secret_headers: dict[str, str] = Field(
        default_factory=dict,
        description="Headers whose values are secrets, such as Authorization.",
        json_schema_extra=SECRET,
    )
    id_header: str | None = Field(
        default="Idempotency-Key",
        description="Header for the id of the request; the same events always have the same id. null: no header.",
    )
    body: Literal["ndjson", "array", "object"] = Field(
        default="ndjson", description="Format of the body: one event per line, [events], or {body_key: [events]}."
    )
    body_key: str = Field(default="events", description="Key of the events in a body of format object.")
    body_fields: dict[str, Any] = Field(
        default_factory=dict, description="Additional fields of a body of format object, by name."
    )
    secret_body_fields: dict[str, str] = Field(
        default_factory=dict,
        description="Additional fields of a body of format object whose values are secrets, such as an API key.",
        json_schema_extra=SECRET,
    )
    content_type: str | None = Field(
        default=None,
        description="Content-Type; by default application/x-ndjson or application/json, to match the body.",
    )
    mapping: dict[str, Any] = Field(
        default_factory=dict,
        description="What is sent for each event, in the mapping language; by default the event unchanged.",
        examples=[{"name": "event_type", "at": {"$time": "event_timestamp"}}],
    )
    success_path: str | None = Field(
        default=None,
        description="Path in the response (JSON) at which a 2xx must have success_value; otherwise it is retried.",
    )
    success_value: Any = Field(default=True, description="Value at success_path if the request succeeded.")
    errors_path: str | None = Field(
        default=None,
        description="Path in the response (JSON) of a 2xx to a list of the events that were refused while the others "
        "were accepted, or to an object of their numbers and reasons. Anything else there, except nothing, null, "
        "false, 0 and an empty text, blocks, because it is unknown which events were accepted.",
    )
    error_index_path: str = Field(
        default="index", description="Path within each error to the number of the event in the request, from 0."
    )
    error_reason_path: str = Field(default="message", description="Path within each error to the reason.")
    separator_bytes: ClassVar[int] = 1
    _call: Call | None = PrivateAttr(default=None)

    @property
    def _rest(self) -> dict[str, Any]:
        return {**self.body_fields, **self.secret_body_fields}

    @field_validator("mapping")
    @classmethod
    def _check_mapping(cls, value: dict[str, Any]) -> dict[str, Any]:
        compile_mapping(value)
        return value

    @field_validator("success_path", "errors_path", "error_index_path", "error_reason_path")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None:
            paths.split(value)
        return value

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event, unchanged or mapped."""
        return self.encoder()(event)

    def encoder(self) -> Callable[[bytes], Sequence[bytes]]:
        """:meth:`encode`, without reading the options for each event."""
        if not self.mapping:
            return lambda event: (event,)
        call = self._call
        if call is None:
            call = self._call = Call(self.mapping)
        return lambda event: (call(event),)

    def post(self, request: Packed) -> Receipt | None:
        """Send one request; the receipt has what the response says about single events."""
        headers = {**self.headers, **self.secret_headers}
        if self.id_header is not None:
            headers[self.id_header] = request.id

        def send() -> Answer:
            return self.send_body(
                self.url.replace("{id}", request.id),
                self._body(request.items),
                method=self.method,
                content_type=self.content_type or f"application/{'x-ndjson' if self.body == 'ndjson' else 'json'}",
                headers=headers,
            )

        # Without the id the API cannot recognize a repeat.
        answer = accept(send()) if self.id_header is None else self.settle(request.id, send)
        if answer is None:
            return Receipt(detail=f"request {request.id} was accepted before")
        if self.success_path is None and self.errors_path is None:
            return None
        return self._read(answer, len(request.items))

    def check(self) -> None:
        """Connect only: whether the API accepts events, only a real request shows."""
        self._http.connect(self.url, timeout_seconds=self.timeout_seconds, connections=self.connections)

    def _body(self, items: Sequence[bytes]) -> bytes:
        if self.body == "ndjson":
            return b"\n".join([*items, b""])
        array = b"[" + b",".join(items) + b"]"
        if self.body == "array":
            return array
        rest = to_json(self._rest)[1:]
        return b"{" + to_json({"": self.body_key})[4:-1] + b":" + array + (b"," + rest if self._rest else rest)

    def _read(self, answer: Answer, items: int) -> Receipt:
        try:
            told: Any = json.loads(answer.body)
        except ValueError:
            raise Blocked(f"{answer.told()}: not JSON", status=answer.status, answer=answer.said()) from None
        refused = {} if self.errors_path is None else self._errors(told, answer, items)
        if self.success_path is not None and not refused:
            found = paths.look_up(told, paths.split(self.success_path))
            if found != self.success_value or isinstance(found, bool) != isinstance(self.success_value, bool):
                raise TryLater(
                    f"{answer.told()}: {self.success_path} is {found!r}, not {self.success_value!r}",
                    status=answer.status,
                    answer=answer.said(),
                )
        return Receipt(refused=refused)

    def _errors(self, told: Any, answer: Answer, items: int) -> Mapping[int, str]:
        errors = paths.look_up(told, paths.split(self.errors_path or ""))
        if not errors:
            return {}
        if isinstance(errors, dict):
            errors = [{self.error_index_path: index, self.error_reason_path: why} for index, why in errors.items()]
            index_path, reason_path = [self.error_index_path], [self.error_reason_path]
        else:
            index_path, reason_path = paths.split(self.error_index_path), paths.split(self.error_reason_path)
        if not isinstance(errors, list):
            # Some were refused, and it is unknown which: sending parts again would repeat the others.
            raise Blocked(
                f"{answer.told()}: found {str(errors)[:60]!r} at errors_path {self.errors_path}; allowed: a list, or "
                "an object of numbers and reasons",
                status=answer.status,
                answer=answer.said(),
            )
        refused: dict[int, str] = {}
        for error in errors:
            index = _number(paths.look_up(error, index_path) if isinstance(error, dict | list) else error)
            if index is None or not 0 <= index < items:
                raise Blocked(
                    f"{answer.told()}: {self.error_index_path} in {self.errors_path} names no event of the request",
                    status=answer.status,
                    answer=answer.said(),
                )
            reason = paths.look_up(error, reason_path)
            refused[index] = str(reason or answer.told())
        return refused


def _number(found: Any) -> int | None:
    """The number of an event in a response, also if written as text; None if it is not a number."""
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 10:
        return int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
