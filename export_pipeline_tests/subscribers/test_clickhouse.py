"""The clickhouse subscriber against ClickHouse's engine."""

import json
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from pydantic import ValidationError

from export_pipeline.delivery.sending import send_to
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.clickhouse import Clickhouse
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.clickhouse import ClickhouseServer
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.subscribers.http_contract import HttpContract

PASSWORD = "p4ssw0rd-of-the-writer"
WINDOW = "SETTINGS non_replicated_deduplication_window = 1000"
numbers = count()


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickhouseServer]:
    with ClickhouseServer(str(tmp_path_factory.mktemp("clickhouse")), "writer", PASSWORD) as server:
        server.query("CREATE DATABASE events")
        yield server
        server.session.close()


def make(server: ClickhouseServer, table: str, **options: Any) -> Clickhouse:
    given = {"api_url": server.url, "username": "writer", "password": PASSWORD, "database": "events", "table": table}
    return Clickhouse(**{**given, **options})


class TestContract(HttpContract):
    """Whole events into a column of text."""

    failures = {
        name: error
        for name, error in HttpContract.failures.items()
        if name != "redirect"  # see below
    } | {"no such table": Blocked}
    tells_retry_after = False
    format = "JSONAsString"

    @pytest.fixture
    def subscriber(self, clickhouse: ClickhouseServer) -> Iterator[Subscriber]:
        self.server = self.clickhouse = clickhouse
        self.table = f"raw_{next(numbers)}"
        clickhouse.query(
            f"CREATE TABLE events.{self.table} (event String) ENGINE = MergeTree ORDER BY tuple() {WINDOW}"
        )
        subscriber = self.make()
        yield subscriber
        subscriber.close()
        self.mend()

    def make(self, *, url: str | None = None, key: str | None = None, timeout_seconds: float = 60) -> Subscriber:
        return make(
            self.clickhouse,
            self.table,
            api_url=url or self.server.url,
            password=key or PASSWORD,
            format=self.format,
            gzip=True,
            timeout_seconds=timeout_seconds,
        )

    def held(self) -> Iterable[bytes]:
        rows = self.clickhouse.query(f"SELECT event FROM events.{self.table}", "JSONEachRow")
        return [json.loads(row)["event"].encode() for row in rows.splitlines()]

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        if failure == "no such table":
            return make(self.clickhouse, "nothing_here", format=self.format)
        return super().broken(subscriber, failure)


@pytest.fixture
def table(clickhouse: ClickhouseServer) -> str:
    """A table with a column for some members of an event."""
    name = f"typed_{next(numbers)}"
    columns = "event_type String, event_timestamp UInt64, arrival_timestamp UInt64"
    clickhouse.query(f"CREATE TABLE events.{name} ({columns}) ENGINE = MergeTree ORDER BY event_timestamp {WINDOW}")
    return name


def rows(clickhouse: ClickhouseServer, table: str) -> int:
    return int(clickhouse.query(f"SELECT count() FROM events.{table}"))


def test_columns_are_filled_by_name(clickhouse: ClickhouseServer, table: str) -> None:
    """Members without a column are left out where the deployment says so."""
    subscriber = make(clickhouse, table, skip_unknown_fields=True)
    assert send_to(subscriber, batch_of([sample_event(1)])).accepted == 1
    subscriber.close()
    [row] = clickhouse.query(f"SELECT * FROM events.{table}", "JSONEachRow").splitlines()
    assert json.loads(row)["event_type"] == "click"


def test_members_without_a_column_are_not_lost_without_a_word(clickhouse: ClickhouseServer, table: str) -> None:
    """Unless unknown fields are skipped, an event with a member that the table lacks is refused, with the member's
    name.
    """
    subscriber = make(clickhouse, table)
    with pytest.raises(Refused, match="Unknown field found while parsing JSONEachRow format: event_version"):
        subscriber.deliver(batch_of([sample_event(1)]))
    subscriber.close()


def test_an_event_that_does_not_fit_is_found_and_the_rest_inserted(clickhouse: ClickhouseServer, table: str) -> None:
    """ClickHouse refuses the whole insert; bisecting finds the event, and repeating it all changes nothing."""
    subscriber = make(clickhouse, table, skip_unknown_fields=True)
    batch = batch_of([sample_event(n, **({"event_timestamp": "x"} if n == 13 else {})) for n in range(40)])
    for _ in range(2):
        sent = send_to(subscriber, batch)
        assert sent.accepted == 39
        assert list(sent.refused) == [13]
        assert rows(clickhouse, table) == 39
    subscriber.close()


def test_a_large_batch_is_one_block_and_so_one_token(clickhouse: ClickhouseServer, table: str) -> None:
    """More rows than ClickHouse's usual block are taken, once, however often they come."""
    events = [b'{"event_type":"x","event_timestamp":%d}' % n for n in range(150_000)]
    subscriber = make(clickhouse, table)
    for _ in range(2):
        assert send_to(subscriber, batch_of(events)).accepted == 150_000
        assert rows(clickhouse, table) == 150_000
    subscriber.close()


def test_equal_rows_of_different_batches_are_all_kept(clickhouse: ClickhouseServer, table: str) -> None:
    """The token is the batch's, not the content's: what truly happened twice is there twice."""
    subscriber = make(clickhouse, table, skip_unknown_fields=True)
    for batch_id in ("one", "two"):
        send_to(subscriber, batch_of([sample_event(1)], batch_id))
    subscriber.close()
    assert rows(clickhouse, table) == 2


def test_settings_reach_the_server(clickhouse: ClickhouseServer, table: str) -> None:
    """The deployment's settings are used in addition to the token."""
    subscriber = make(clickhouse, table, settings={"input_format_skip_unknown_fields": "1", "max_threads": "1"})
    send_to(subscriber, batch_of([sample_event(1)], "b-7"))
    subscriber.close()
    query = clickhouse.requests[-1].query
    assert query["insert_deduplication_token"] == "b-7"
    assert query["max_threads"] == "1"
    assert query["async_insert"] == "0"


def test_a_redirect_is_not_followed(clickhouse: ClickhouseServer, table: str) -> None:
    """The events go nowhere but to the address of the deployment."""
    subscriber = make(clickhouse, table, skip_unknown_fields=True)
    subscriber.check()
    clickhouse.script.append(Reply(308, headers={"location": f"{clickhouse.url}/elsewhere"}))
    with pytest.raises(Blocked, match="308"):
        subscriber.deliver(batch_of([sample_event(1)]))
    subscriber.close()
    assert all("elsewhere" not in request.target for request in clickhouse.requests)


def test_behind_a_path(clickhouse: ClickhouseServer, table: str) -> None:
    """A proxy may have ClickHouse below a path."""
    subscriber = make(clickhouse, table, api_url=f"{clickhouse.url}/behind/here", skip_unknown_fields=True)
    subscriber.deliver(batch_of([sample_event(1)]))
    subscriber.close()
    assert clickhouse.requests[-1].path.rstrip("/") == "/behind/here"
    assert rows(clickhouse, table) == 1


def test_check(clickhouse: ClickhouseServer, table: str) -> None:
    """A missing table, and a wrong password, are reported before anything is sent."""
    for subscriber, fault in (
        (make(clickhouse, "nothing"), "the table events.nothing does not exist"),
        (make(clickhouse, table, password="wr0ng-password"), "Authentication failed"),
    ):
        with pytest.raises(Blocked, match=fault):
            subscriber.check()
        subscriber.close()


def test_options() -> None:
    """Which are secret, and what is found when the deployment loads."""
    assert secret_fields(Clickhouse) == {"client_key_password", "password"}
    with pytest.raises(ValidationError, match="is not encrypted"):
        Clickhouse(api_url="http://clickhouse.example.com", table="t")


@pytest.mark.parametrize("code", [691, 25, 395, 153])
def test_what_is_an_events_fault_costs_no_other_event(clickhouse: ClickhouseServer, table: str, code: int) -> None:
    """An unknown value of an enum, half of a surrogate pair, throwIf, a division: that event alone is refused."""
    kind = {691: "e Enum('a' = 1)", 25: "t String", 395: "n Int64", 153: "n Int64"}[code]
    clickhouse.query(f"CREATE TABLE events.c{code} ({kind}) ENGINE = MergeTree ORDER BY tuple() {WINDOW}")
    expression = {395: "throwIf(n = 13)", 153: "intDiv(1, n - 13)"}.get(code)
    if expression:
        clickhouse.query(f"CREATE TABLE events.v{code} (x Int64) ENGINE = MergeTree ORDER BY tuple()")
        clickhouse.query(
            f"CREATE MATERIALIZED VIEW events.m{code} TO events.v{code} AS SELECT {expression} AS x FROM events.c{code}"
        )
    good = {691: b'{"e":"a"}', 25: b'{"t":"a"}', 395: b'{"n":1}', 153: b'{"n":1}'}[code]
    bad = {691: b'{"e":"b"}', 25: rb'{"t":"\ud83d"}', 395: b'{"n":13}', 153: b'{"n":13}'}[code]
    subscriber = make(clickhouse, f"c{code}")
    sent = send_to(subscriber, batch_of([good, bad, good]))
    assert (sent.accepted, list(sent.refused)) == (2, [1]), sent
    assert f"Code: {code}" in sent.refused[1] or f"code: {code}" in sent.refused[1].lower(), sent.refused[1]
    if expression:
        with pytest.raises(Blocked, match="2 of 2 events were refused for a reason that is not in the events"):
            send_to(subscriber, batch_of([bad, bad], "another"))
    subscriber.close()


def test_an_insert_into_too_many_partitions_is_halved(clickhouse: ClickhouseServer) -> None:
    """ClickHouse takes 100 partitions in one insert: more are several inserts, and no event is refused."""
    clickhouse.query(f"CREATE TABLE events.parts (n Int64) ENGINE = MergeTree ORDER BY tuple() PARTITION BY n {WINDOW}")
    subscriber = make(clickhouse, "parts")
    assert send_to(subscriber, batch_of([b'{"n":%d}' % n for n in range(150)])).accepted == 150
    subscriber.close()
    assert rows(clickhouse, "parts") == 150


def test_a_table_whose_merges_are_behind_is_tried_later(clickhouse: ClickhouseServer, table: str) -> None:
    """The same code with another text is temporary."""
    text = b"Code: 252. DB::Exception: Too many parts (3001). Merges are processing significantly slower than inserts"
    subscriber = make(clickhouse, table, skip_unknown_fields=True)
    subscriber.check()
    clickhouse.script.append(Reply(500, text, {"x-clickhouse-exception-code": "252"}))
    with pytest.raises(TryLater, match="Too many parts"):
        subscriber.deliver(batch_of([sample_event(1)]))
    subscriber.close()
