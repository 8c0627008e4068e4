"""Index every event in OpenSearch or Elasticsearch (POST /_bulk)."""

import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.errors import Blocked, DeliveryError, TryLater
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import (
    TRY_LATER,
    USER_AGENT,
    find_distrust,
    of_status,
    retry_after_seconds,
)
from export_pipeline.subscribers.library_client import LibraryClientSubscriber, proxy_manager
from export_pipeline.subscribers.mapping import Event, Reader, compile_mapping
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.parsing import Unfit, encoded
from export_pipeline.subscribers.scrubbing import scrub

EXISTS_ALREADY = 409
MAX_ID_BYTES = 512
# Errors of single documents that are caused by the cluster, so that it would accept no document: types of errors ...
OF_THE_CLUSTER = frozenset(
    {
        "alias_not_found_exception",
        "authorization_exception",
        "cluster_block_exception",
        "index_closed_exception",
        "index_create_block_exception",
        "index_not_found_exception",
        "invalid_alias_name_exception",
        "invalid_index_name_exception",
        "invalid_index_template_exception",
        "security_exception",
    }
)
# ... and the beginnings of those without a specific type: the limit of shards, an alias without write index, a missing
# ingest pipeline. What follows may be quoted from the document.
OF_THE_CLUSTER_IN_WORDS = re.compile(
    r"(?:Validation Failed: 1: )?this action would add \[\d+\]"
    r"|no write index is defined for (?:alias|data stream)"
    r"|(?:alias|Alias) \[[^\]]*\] has more than one ind"
    r"|pipeline with id \[[^\]]*\] does not exist"
    r"|no matching index template found for data stream"
)
# Errors caused either by the cluster's settings or by a document: by the settings, if no document is accepted.
OF_EITHER: Mapping[str, str] = {
    r"script_exception|ScriptException|runtime error|compile error|painless": "a script fails",
    r"ingest_processor_exception|fail_processor_exception|ingest pipeline": "the ingest pipeline fails",
    r"[Ll]imit of (?:total fields|total dimension fields|nested fields|field name length) .*exceeded": (
        "the mapping is full"
    ),
    r"strict_dynamic_mapping_exception|dynamic introduction of": "the mapping accepts no new fields",
    r"data stream timestamp field|@timestamp": "the data stream requires a timestamp",
    r"routing_missing_exception": "the index requires a routing value",
}


class Opensearch(LibraryClientSubscriber):
    """Creates one document per event, in an index for its day; also in Elasticsearch 7 and later.

    The document's id is the hash of the event, or the value at ``id_path``: an existing document is not changed, so a
    repeat is harmless. Documents that a full queue rejected (429) are sent again, alone; one that the index cannot
    accept, such as text in a numeric field, goes to the quarantine with the reason. Errors of the cluster itself, such
    as its limit of shards, an alias without write index, or a script or a full mapping that rejects every document,
    block the subscriber until you fix them.
    """

    api_url: str = Field(description="Address of the cluster.", examples=["https://search.example.com:9200"])
    username: str | None = Field(default=None, description="User name for basic authentication.")
    password: str | None = Field(default=None, description="Password of that user.", json_schema_extra=SECRET)
    api_key: str | None = Field(
        default=None, description="Encoded API key (Elasticsearch), instead of a user.", json_schema_extra=SECRET
    )
    index: str = Field(
        default="events-%Y.%m.%d",
        description="Name of the index or data stream, as a strftime pattern for the day of the events.",
    )
    id_path: str | None = Field(
        default=None, description="Path to a document's id in the event; by default the hash of the event."
    )
    pipeline: str | None = Field(default=None, description="Ingest pipeline for the documents.")
    verify_certs: bool = Field(default=True, description="Verify the cluster's TLS certificate.")
    gzip: bool = Field(default=False, description="Compress the body.")
    max_request_events: int = Field(default=2_000, ge=1, description="Maximum number of documents per request.")
    max_request_bytes: int = Field(
        default=10_000_000, ge=1, le=100_000_000, description="Maximum request size in bytes, before compression."
    )
    separator_bytes: ClassVar[int] = 700
    """The line that names the action, its index (at most 255 bytes) and its id (512)."""
    needs: ClassVar[tuple[str, ...]] = ("opensearchpy",)
    _id_reader: Reader | None = PrivateAttr(default=None)
    _asked: Any = PrivateAttr(default_factory=threading.local)

    @field_validator("id_path")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None:
            compile_mapping(value)
        return value

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event, unchanged.

        Raises:
            Unfit: its value at ``id_path`` is longer than an id may be, or cannot be encoded.
        """
        if self.id_path is not None and len(identity := encoded(self._id(event), self.id_path)) > MAX_ID_BYTES:
            raise Unfit(f"its id, at {self.id_path}, has {len(identity)} bytes; allowed: {MAX_ID_BYTES}")
        return (event,)

    def send(self, request: Packed) -> Receipt:
        """Send one bulk request; the receipt has the result of each document."""
        client = self._open()
        from opensearchpy.exceptions import OpenSearchException, SerializationError
        from opensearchpy.helpers import streaming_bulk

        index = request.date.strftime(self.index)
        actions = [self._action(item, index) for item in request.items]
        more: dict[str, Any] = {} if self.pipeline is None else {"pipeline": self.pipeline}
        try:
            results = [
                item["create"]
                for _, item in streaming_bulk(
                    client,
                    actions,
                    chunk_size=len(actions),
                    max_chunk_bytes=2**31,
                    raise_on_error=False,
                    **more,
                )
            ]
        except (AttributeError, KeyError, TypeError, SerializationError):
            raise TryLater(f"{self._place} answered 200, but not with a bulk response") from None
        except OpenSearchException as error:
            raise self._meaning(error) from None
        if len(results) != len(actions):
            raise TryLater(f"{self._place}: {len(actions)} documents were sent, but the response has {len(results)}")
        return self._receipt(results)

    def ask(self) -> None:
        """Request the cluster's name and version; a user without permission for that is not an error."""
        client = self._open()
        from opensearchpy.exceptions import AuthorizationException, OpenSearchException

        try:
            client.info()
        except AuthorizationException:
            return
        except OpenSearchException as error:
            raise self._meaning(error) from None

    def _action(self, item: bytes, index: str) -> dict[str, Any]:
        # The client sends strings unchanged.
        return {"_op_type": "create", "_index": index, "_id": self._id(item), "_source": item.decode()}

    def _id(self, item: bytes) -> str:
        if self.id_path is None:
            return hashlib.sha256(item).hexdigest()
        if self._id_reader is None:
            self._id_reader = compile_mapping({"$first_id": [self.id_path]})
        with suppress(Unfit):
            if (found := self._id_reader(Event(item))) is not None:
                return str(found)
        return hashlib.sha256(item).hexdigest()

    def _receipt(self, answers: Sequence[dict[str, Any]]) -> Receipt:
        refused: dict[int, str] = {}
        later: dict[int, str] = {}
        suspected: dict[int, str] = {}
        for number, answer in enumerate(answers):
            status = answer.get("status", 500)
            if 200 <= status < 300 or status == EXISTS_ALREADY:
                continue
            error = answer.get("error")
            kind = str(error.get("type")) if isinstance(error, dict) else ""
            reason = f"{status} {kind}: {error.get('reason')}" if isinstance(error, dict) else f"{status} {error}"
            if status in (401, 403, 404) or kind in OF_THE_CLUSTER or OF_THE_CLUSTER_IN_WORDS.match(_words(error)):
                raise Blocked(f"{self._place}: {reason}", status=status)
            if status in TRY_LATER or status >= 500:
                later[number] = reason
                continue
            refused[number] = reason
            if trouble := _suspected(error):
                suspected[number] = trouble
        return Receipt(refused=refused, later=later, suspected=suspected)

    def _meaning(self, error: Any) -> DeliveryError:
        """The error that the failure of a whole request means."""
        if distrust := find_distrust(error):
            return Blocked(f"{self._place}: its certificate is not trusted: {distrust.verify_message}")
        status = getattr(error, "status_code", "N/A")
        told = str(getattr(error, "info", "") or getattr(error, "error", "")) or type(error).__name__
        said = scrub(told[:500], self.secret_values())
        text = scrub(f"{self._place} answered {status}: {said}", self.secret_values())
        if not isinstance(status, int):
            return TryLater(text)
        asked = retry_after_seconds(getattr(self._asked, "pause", None))
        return of_status(status, text, asked_seconds=asked, answer=said)

    def _open(self) -> Any:
        from opensearchpy import OpenSearch, Urllib3HttpConnection

        asked = self._asked
        tls = replace(self.connections, verify=self.verify_certs).tls()
        proxy = self.proxy
        through = proxy and _Through(self.api_url, proxy_manager(proxy, tls, self.max_in_flight + 1))

        class Connection(Urllib3HttpConnection):
            """Keeps the Retry-After of a failure, which the client's errors do not contain."""

            def get_response_headers(self, response: Any) -> Any:
                asked.pause = response.headers.get("retry-after")
                return super().get_response_headers(response)

            def _create_urllib3_pool(self) -> None:
                super()._create_urllib3_pool()
                self.pool = through or self.pool

        with self._opening:
            if self._client is None:
                headers = {"user-agent": USER_AGENT}
                if self.api_key is not None:
                    headers["authorization"] = f"ApiKey {self.api_key}"
                self._client = OpenSearch(
                    [self.api_url],
                    connection_class=Connection,
                    http_auth=(self.username, self.password or "") if self.username else None,
                    headers=headers,
                    http_compress=self.gzip,
                    timeout=self.timeout_seconds,
                    ssl_context=tls if self.api_url.startswith("https:") else None,
                    # The caller retries, because it knows what was accepted.
                    max_retries=0,
                    retry_on_timeout=False,
                    pool_maxsize=self.max_in_flight + 1,
                )
            return self._client


def _words(error: Any) -> str:
    return str(error.get("reason")) if isinstance(error, dict) else str(error)


def _suspected(error: Any) -> str:
    """Which error of the cluster may have caused *error*, by its texts and those of its causes; empty: none."""
    said = ""
    while isinstance(error, dict):
        said += f"{error.get('type')}: {_words(error).partition('Preview of field')[0]}\n"
        error = error.get("caused_by")
    return next((trouble for pattern, trouble in OF_EITHER.items() if re.search(pattern, said)), "")


class _Through:
    """Replaces the client's connection pool, which does not support proxies, by one that uses a proxy."""

    def __init__(self, api_url: str, manager: Any) -> None:
        parts = urlsplit(api_url)
        host = parts.netloc.rpartition("@")[2]
        self._server = f"{parts.scheme}://{host if parts.port else f'{host}:9200'}"
        self._manager = manager

    def urlopen(self, method: str, url: str, body: bytes | None, **options: Any) -> Any:
        return self._manager.urlopen(method, self._server + url, body=body, redirect=False, **options)

    def close(self) -> None:
        self._manager.clear()
