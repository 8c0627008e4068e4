"""Insert every batch into ClickHouse as it is (INSERT … FORMAT JSONEachRow)."""

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

# Codes of ClickHouse's ErrorCodes.cpp. What is in none of these may pass by itself.
OF_THE_DATA = frozenset(
    {
        *(6, 25, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 130, 131, 153, 190, 321, 349, 376, 395, 441, 467, 469, 529),
        *(632, 636, 675, 676, 691),
    }
)
# Of these, what a materialized view or a default may make of every event, whatever is in it.
OF_EITHER = {153: "a division in the table's expressions or views fails", 395: "throwIf in the table's views throws"}
TOO_MANY_PARTS = 252
# Of one insert, which halves of it may not have; else of a table whose merges are behind, which passes.
_TOO_MANY_PARTITIONS = re.compile(r"partitions for single INSERT block", re.IGNORECASE)
OF_THE_CONFIGURATION = frozenset(
    {16, 36, 47, 60, 62, 73, 81, 115, 164, 192, 193, 194, 195, 291, 452, 497, 516, 518, 519, 620}
)
ACCESS_DENIED = 497
# How clickhouse-connect tells of an answer that ClickHouse itself did not give.
_STATUS = re.compile(r"(?:HTTP status|response code) (\d{3})\b")


class Clickhouse(LibraryClientSubscriber):
    """Inserts batches into ClickHouse without parsing them; every column is filled from the member of its name.

    Each insert has a deduplication token made of the batch, so a repeat changes nothing: replicated tables and
    ClickHouse Cloud remember tokens by themselves, a plain MergeTree table needs the setting
    ``non_replicated_deduplication_window`` (such as 10000). An event that does not fit the table goes to the
    quarantine with ClickHouse's reason.
    """

    api_url: str = Field(
        description="Address of ClickHouse's HTTP interface.", examples=["https://clickhouse.example.com:8443"]
    )
    username: str = Field(default="default", description="User to insert with.")
    password: str | None = Field(default=None, description="Password of that user.", json_schema_extra=SECRET)
    database: str = Field(default="default", description="Database of the table.")
    table: str = Field(description="Table to insert into.")
    format: Literal["JSONEachRow", "JSONAsString", "JSONAsObject"] = Field(
        default="JSONEachRow",
        description="JSONEachRow fills columns by name; JSONAsString and JSONAsObject put the whole event into the "
        "table's only column, a String or a JSON.",
    )
    skip_unknown_fields: bool = Field(
        default=False,
        description="Leave out members that the table has no column for, instead of refusing the event.",
    )
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="More settings of the insert.",
        examples=[{"date_time_input_format": "best_effort"}],
    )
    timeout_seconds: float = Field(default=120.0, gt=0, description="How long one insert may take.")
    gzip: bool = Field(default=False, description="Compress the body.")
    max_request_events: int = Field(default=1_000_000, ge=1, description="Most events in one insert.")
    max_request_bytes: int = Field(default=100_000_000, ge=1, description="Largest insert, before compression.")
    max_event_bytes: int = Field(
        default=16_777_216, ge=1, description="Largest event; a larger one goes to the quarantine."
    )
    needs: ClassVar[tuple[str, ...]] = ("clickhouse_connect",)
    _manager: Any = PrivateAttr(default=None)

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event as it is."""
        return (event,)

    def send(self, request: Packed) -> None:
        """One insert: all of it, or nothing."""
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
                    "async_insert": 0,  # it would answer before the data is safe, and knows no token
                    "wait_end_of_query": 1,
                    "insert_deduplicate": 1,
                    "insert_deduplication_token": request.id,
                    # One block, since a token stands for one block.
                    "max_insert_block_size": max(request.events, 1_048_576),
                    "input_format_parallel_parsing": 0,
                    "input_format_skip_unknown_fields": int(self.skip_unknown_fields),
                    **self.settings,
                },
            )
        except ClickHouseError as error:
            raise self._meaning(error) from None

    def ask(self) -> None:
        """Ask whether the table is there."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            found = self._open().command(f"EXISTS TABLE {_quoted(self.database)}.{_quoted(self.table)}")
        except ClickHouseError as error:
            if getattr(error, "code", None) == ACCESS_DENIED:
                return  # a user that may only insert is no fault
            raise self._meaning(error) from None
        if not int(found):
            raise Blocked(f"{self._place}: there is no table {self.database}.{self.table}")

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
            return of_status(int(answered[1]), text)  # of a proxy, not of ClickHouse
        if code == TOO_MANY_PARTS and _TOO_MANY_PARTITIONS.search(str(error)):
            return Refused(text, status=code, suspected="it would not take a single partition in an insert")
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
            # Not under the lock: the server is asked, and may drip.
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
            # A redirect would take the events to another place, and a Retry-After is for the caller to obey.
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
