"""Insert every batch into ClickHouse unchanged (INSERT … FORMAT JSONEachRow)."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr

from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.http_client import find_distrust, of_status
from export_pipeline.subscribers.library_client import LibraryClientSubscriber, proxy_manager
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.scrubbing import scrub

# Codes of ClickHouse's ErrorCodes.cpp. Errors in none of these sets may be temporary.
OF_THE_DATA = frozenset(
    {
        *(6, 25, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 130, 131, 153, 190, 321, 349, 376, 395, 441, 467, 469, 529),
        *(632, 636, 675, 676, 691),
    }
)
# Those of them that a materialized view or a default may raise for every event, whatever is in it.
OF_EITHER = {153: "a division in the table's expressions or views fails", 395: "throwIf in the table's views throws"}
TOO_MANY_PARTS = 252
# Either this insert has too many partitions, and its halves may not; or the table's merges lag, which is temporary.
_TOO_MANY_PARTITIONS = re.compile(r"partitions for single INSERT block", re.IGNORECASE)
OF_THE_CONFIGURATION = frozenset(
    {16, 36, 47, 60, 62, 73, 81, 115, 164, 192, 193, 194, 195, 291, 452, 497, 516, 518, 519, 620}
)
ACCESS_DENIED = 497
# How clickhouse-connect reports a response that did not come from ClickHouse itself.
_STATUS = re.compile(r"(?:HTTP status|response code) (\d{3})\b")


class Clickhouse(LibraryClientSubscriber):
    """Inserts batches into ClickHouse without parsing them; each column is filled from the member with its name.

    Each insert has a deduplication token derived from the batch, so a repeat changes nothing: replicated tables and
    ClickHouse Cloud remember tokens by default, a plain MergeTree table needs the setting
    ``non_replicated_deduplication_window`` (such as 10000). An event that does not fit the table goes to the
    quarantine with ClickHouse's error.
    """

    api_url: str = Field(
        description="Address of ClickHouse's HTTP interface.", examples=["https://clickhouse.example.com:8443"]
    )
    username: str = Field(default="default", description="User for the inserts.")
    password: str | None = Field(default=None, description="Password of that user.", json_schema_extra=SECRET)
    database: str = Field(default="default", description="Database of the table.")
    table: str = Field(description="Table to insert into.")
    format: Literal["JSONEachRow", "JSONAsString", "JSONAsObject"] = Field(
        default="JSONEachRow",
        description="JSONEachRow fills columns by name; JSONAsString and JSONAsObject put the whole event into the "
        "table's only column, of type String or JSON.",
    )
    skip_unknown_fields: bool = Field(
        default=False,
        description="Ignore members for which the table has no column, instead of refusing the event.",
    )
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="Additional settings for the insert.",
        examples=[{"date_time_input_format": "best_effort"}],
    )
    timeout_seconds: float = Field(default=120.0, gt=0, description="Timeout of one insert, in seconds.")
    gzip: bool = Field(default=False, description="Compress the body.")
    max_request_events: int = Field(default=1_000_000, ge=1, description="Maximum number of events per insert.")
    max_request_bytes: int = Field(
        default=100_000_000, ge=1, description="Maximum insert size in bytes, before compression."
    )
    max_event_bytes: int = Field(
        default=16_777_216, ge=1, description="Maximum event size in bytes; a larger event goes to the quarantine."
    )
    needs: ClassVar[tuple[str, ...]] = ("clickhouse_connect",)
    _manager: Any = PrivateAttr(default=None)

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event, unchanged."""
        return (event,)

    def send(self, request: Packed) -> None:
        """Send one insert; ClickHouse accepts all of it or nothing."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        body: bytes = request.data
        if self.gzip:
            from isal import igzip

            body = igzip.compress(body, mtime=0)
        try:
            self._open().raw_insert(
                self.table,
                insert_block=body,
                fmt=self.format,
                compression="gzip" if self.gzip else None,
                settings={
                    "async_insert": 0,  # would answer before the data is safe, and ignores tokens
                    "wait_end_of_query": 1,
                    "insert_deduplicate": 1,
                    "insert_deduplication_token": request.id,
                    # One block, because a token covers one block.
                    "max_insert_block_size": max(request.events, 1_048_576),
                    "input_format_parallel_parsing": 0,
                    "input_format_skip_unknown_fields": int(self.skip_unknown_fields),
                    **self.settings,
                },
            )
        except ClickHouseError as error:
            raise self._meaning(error) from None

    def ask(self) -> None:
        """Check that the table exists."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            found = self._open().command(f"EXISTS TABLE {_quoted(self.database)}.{_quoted(self.table)}")
        except ClickHouseError as error:
            if getattr(error, "code", None) == ACCESS_DENIED:
                return  # a user that may only insert is not an error
            raise self._meaning(error) from None
        if not int(found):
            raise Blocked(f"{self._place}: the table {self.database}.{self.table} does not exist")

    def close(self) -> None:
        """Close the connections."""
        super().close()
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.clear()

    def _meaning(self, error: Any) -> DeliveryError:
        if distrust := find_distrust(error):
            return Blocked(f"{self._place}: its certificate is not trusted: {distrust.verify_message}")
        text = scrub(f"{self._place}: {error}", self.secret_values())
        code = getattr(error, "code", None)
        if code is None and (answered := _STATUS.search(str(error))):
            return of_status(int(answered[1]), text)  # from a proxy, not from ClickHouse
        if code == TOO_MANY_PARTS and _TOO_MANY_PARTITIONS.search(str(error)):
            return Refused(text, status=code, suspected="it does not accept a single partition in an insert")
        if code in OF_THE_DATA:
            return Refused(text, status=code, suspected=OF_EITHER.get(code, ""))
        return Blocked(text, status=code) if code in OF_THE_CONFIGURATION else TryLater(text, status=code)

    def _open(self) -> Any:
        import clickhouse_connect
        from urllib3 import PoolManager, Retry

        url = urlsplit(self.api_url)
        client = self._client
        if client is None:
            tls, proxy, connections = self.connections.tls(), self.proxy, self.max_in_flight + 1
            manager = (
                proxy_manager(proxy, tls, connections) if proxy else PoolManager(ssl_context=tls, maxsize=connections)
            )
            # Not under the lock: this sends a request, and the server may respond slowly.
            opened: Any = clickhouse_connect.get_client(
                interface=url.scheme,
                host=url.hostname,
                port=url.port or (8443 if url.scheme == "https" else 8123),
                username=self.username,
                password=self.password or "",
                database=self.database,
                proxy_path=url.path,
                pool_mgr=manager,
                connect_timeout=max(1, round(self.timeout_seconds)),
                send_receive_timeout=max(1, round(self.timeout_seconds)),
                query_retries=0,
                autogenerate_session_id=False,  # a session serves one query at a time
            )
            # A redirect would send the events elsewhere, and the caller handles Retry-After.
            opened.http_retries = Retry(total=1, redirect=0, raise_on_redirect=False, respect_retry_after_header=False)
            with self._opening:
                if self._client is None:
                    self._client, self._manager = opened, manager
                else:
                    opened.close()
                    manager.clear()
                client = self._client
        return client


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
