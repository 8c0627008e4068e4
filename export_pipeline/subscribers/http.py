"""Send events to any HTTP API that takes JSON: for the one nobody has written a subscriber for."""

import json
from collections.abc import Mapping, Sequence
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
    """Sends events to any API, as newline-delimited JSON, as an array, or as an object with an array in it.

    Answers count as everywhere: 2xx accepts; 408, 425, 429 and 5xx are tried again (``Retry-After`` is obeyed); 400,
    413 and 422 refuse events, and the request is halved until they are found; anything else blocks. An API that tells
    more in its answer is read with ``success_path`` and ``errors_path``.
    """

    url: str = Field(
        description="Where to send; {id} in it is replaced by the id of the request.",
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
        description="Header for the id of the request, the same whenever the same events are sent; null: none.",
    )
    body: Literal["ndjson", "array", "object"] = Field(
        default="ndjson", description="Shape of the body: one event a line, [events], or {body_key: [events]}."
    )
    body_key: str = Field(default="events", description="Where the events are in a body of shape object.")
    body_fields: dict[str, Any] = Field(
        default_factory=dict, description="What else a body of shape object holds, by name."
    )
    secret_body_fields: dict[str, str] = Field(
        default_factory=dict,
        description="What else a body of shape object holds and is secret, such as an API key.",
        json_schema_extra=SECRET,
    )
    content_type: str | None = Field(
        default=None, description="Content-Type; by default application/x-ndjson or application/json, as the body is."
    )
    mapping: dict[str, Any] = Field(
        default_factory=dict,
        description="What is sent of each event, in the mapping language; by default the event as it is.",
        examples=[{"name": "event_type", "at": {"$time": "event_timestamp"}}],
    )
    success_path: str | None = Field(
        default=None,
        description="Path into the answer (JSON) where a 2xx has to say success_value; else it is tried again.",
    )
    success_value: Any = Field(default=True, description="What is at success_path when all went well.")
    errors_path: str | None = Field(
        default=None,
        description="Path into the answer (JSON) of a list of the events that were refused while the others were "
        "accepted, or of an object of their numbers and reasons. Read from a 2xx. Anything else there, but nothing, "
        "null, false, 0 and an empty text, blocks: nobody can tell which events were accepted.",
    )
    error_index_path: str = Field(
        default="index", description="Path within each of these to the number of the event in the request, from 0."
    )
    error_reason_path: str = Field(default="message", description="Path within each of these to the reason.")
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
        """The event as it is, or as the mapping makes it."""
        if not self.mapping:
            return (event,)
        if self._call is None:
            self._call = Call(self.mapping)
        return (self._call(event),)

    def post(self, request: Packed) -> Receipt | None:
        """One request, and what its answer says of single events."""
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

        # Without its id a repeat is none to the API.
        answer = accept(send()) if self.id_header is None else self.settle(request.id, send)
        if answer is None:
            return Receipt(detail=f"request {request.id} was accepted before")
        if self.success_path is None and self.errors_path is None:
            return None
        return self._read(answer, len(request.items))

    def check(self) -> None:
        """Connect; whether the API takes events shows only a real request."""
        self._http.connect(self.url, timeout_seconds=self.timeout_seconds, connections=self.connections)

    def _body(self, items: Sequence[bytes]) -> bytes:
        if self.body == "ndjson":
            return b"\n".join(items) + b"\n"
        array = b"[" + b",".join(items) + b"]"
        if self.body == "array":
            return array
        rest = to_json(self._rest)[1:]
        return b"{" + to_json({"": self.body_key})[4:-1] + b":" + array + (b"," + rest if self._rest else rest)

    def _read(self, answer: Answer, items: int) -> Receipt:
        try:
            told: Any = json.loads(answer.body)
        except ValueError:
            raise Blocked(f"{answer.told()}: that is no JSON", status=answer.status, answer=answer.said()) from None
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
            # Some were refused, and nobody can tell which: sending parts again would repeat the others.
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
                    f"{answer.told()}: {self.error_index_path} in {self.errors_path} names no event",
                    status=answer.status,
                    answer=answer.said(),
                )
            reason = paths.look_up(error, reason_path)
            refused[index] = str(reason or answer.told())
        return refused


def _number(found: Any) -> int | None:
    """The number of an event in an answer, also where it is written as text; None where it is none."""
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 10:
        return int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
