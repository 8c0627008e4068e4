"""The warehouse subscriber loses no value and lets no two members share a column, whatever comes in whatever order."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from export_pipeline.batching.batch import Batch
from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.testing import batch_of
from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.subscribers.warehouses import delta_rows, duckdb_rows, parquet_rows, postgres_rows

# dlt's own affairs with pandas, pyarrow and DuckDB; none is about this package.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

OURS = ("_event_id", "_batch_id", "_file", "_exported_at", "_dlt_load_id", "_dlt_id")


class Place:
    """An empty destination: deliver to it, and read what it holds."""

    def __init__(self, options: dict[str, Any], read: Callable[[str], list[dict[str, Any]]]) -> None:
        self.options = options
        self._read = read

    def deliver(self, batch: Batch, **options: Any) -> Sent:
        warehouse = Warehouse(**{"retry_for_seconds": 0, **self.options, **options})
        try:
            return send_to(warehouse, batch)
        finally:
            warehouse.close()

    def all_rows(self, table: str = "events") -> list[dict[str, Any]]:
        return self._read(table)

    def rows(self, table: str = "events") -> list[dict[str, Any]]:
        """Without what is ours and what is null."""
        return [
            {name: value for name, value in row.items() if value is not None and name not in OURS}
            for row in self._read(table)
        ]


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> str:
    """The URL of a PostgreSQL server, with a password, since dlt insists on one."""
    return postgres_url.replace("export@", "export:s3cr3t-password@")


@contextmanager
def opened(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    nested = {"max_table_nesting": 1} if kind.endswith("nested") else {}
    if kind.startswith("postgres"):
        with new_database(request.getfixturevalue("postgres")) as url:
            options = {"destination": "postgres", "connection": url, **nested}
            yield Place(options, lambda table: postgres_rows(url, f"export.{table}"))
    elif kind.startswith("duckdb"):
        file = folder / "lake.duckdb"
        options = {"destination": "duckdb", "url": str(file), **nested}
        yield Place(options, lambda table: duckdb_rows(file, f"export.{table}"))
    else:
        options = {"destination": "filesystem", "url": str(folder)}
        if kind == "delta":
            options["table_format"] = "delta"
            yield Place(options, lambda table: delta_rows(folder, table))
        else:
            yield Place(options, lambda table: parquet_rows(folder, table))


THOROUGH = [pytest.param(kind, marks=pytest.mark.thorough) for kind in ("delta", "postgres nested")]


@pytest.fixture(params=["duckdb", "postgres", "parquet", "duckdb nested", *THOROUGH])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every way that rows take."""
    with opened(request.param, request, tmp_path) as made:
        yield made


@pytest.fixture(params=["duckdb", "postgres", "parquet"])
def direct(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """The destinations that are loaded without dlt."""
    with opened(request.param, request, tmp_path) as made:
        yield made


def owners(rows: Sequence[dict[str, Any]]) -> dict[str, set[str]]:
    """Column → the members whose values it holds, where every value tells its member."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for column, value in row.items():
            if isinstance(value, str) and value.startswith("of "):
                found.setdefault(column, set()).add(value)
    return found


ALIKE = [
    "userId",
    "user_id",
    "UserId",
    "user.id",
    "όνομα",
    "χώρα",
    "é",
    "è",
    "e\u0301",
    "items",
    "Items",
    " items",
    "k" * 66,
]
ALIKE += ["k" * 66 + "2", "ctid", "rowid", "_dlt_id", "_event_id", "_overflow", "x", "_partition_x", "a__b", "a_b"]


def test_members_of_like_names_get_a_column_each(place: Place) -> None:
    """Names that normalise to one, in other scripts, too long, or kept by database, dlt or us: each in its own column.

    The same at every batch, whether its members come alone or together.
    """
    batches = [[member] for member in ALIKE[:3]] + [ALIKE, ALIKE[::-1]]
    for number, members in enumerate(batches):
        event = json.dumps({member: f"of {member!r}" for member in members}).encode()
        assert place.deliver(batch_of([event], f"b-{number}")).accepted == 1
    found = owners(place.rows())
    assert all(len(members) == 1 for members in found.values()), found
    assert len(found) == len(ALIKE)
    assert [len(row) for row in place.rows()].count(len(ALIKE)) == 2


@pytest.mark.parametrize("order", list(permutations(["userId", "user_id", "UserId"])))
def test_the_order_of_batches_does_not_matter(
    order: Sequence[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whoever comes first: no column holds two members' values, and a table beside the data tells whose it is."""
    with opened("duckdb", request, tmp_path) as place:
        for member in (*order, *order):
            place.deliver(batch_of([json.dumps({member: f"of {member}"}).encode()], f"b-{member}"))
        found = owners(place.rows())
        noted = {row["column_name"]: row["member"] for row in place.all_rows("_export_columns")}
    assert {column: {f"of {noted[column]}"} for column in found} == found
    assert len(found) == 3


VALUES = [
    "1.0",
    "1e2",
    "-0",
    "-0.0",
    "5e-324",
    "1e-400",
    "1e999",
    "-1e999",
    "0.1",
    "0.30000000000000004",
    "0.10000000000000001",
]
VALUES += [
    "0.1000000000000000055511151231257827",
    "9007199254740993",
    "9007199254740993.0",
    "123456789.123456789123",
    "3",
]
VALUES += [str(edge + step) for edge in (2**63, -(2**63), 2**64) for step in (-1, 0, 1)] + [
    "9" * 30,
    "9" * 400,
    "9" * 5_000,
]
VALUES += [
    '"text"',
    '""',
    '"7"',
    '"true"',
    r'"\\N"',
    r'"\\."',
    r'"a\n\\.\nb"',
    r'"\"\u0000x"',
    r'"\u007f\u2028\ud83d\ude00\t\r"',
]
VALUES += ["true", "false", "[]", "{}", "[1,[2.50,null]]", '{"a":{"a.b":1e2}}', '"2026-11-28T09:00:00.123456789+02:00"']


OF_EACH_KIND = ["1", "1.5", '"t"', "true", '{"a":1}', "1e999"]


@pytest.mark.parametrize("first", OF_EACH_KIND)
def test_every_value_against_every_type_of_column(direct: Place, first: str) -> None:
    """A value is found as it was written, in its column or in a variant of it; or the event is refused."""
    direct.deliver(batch_of([b'{"v":%s}' % first.encode()], "b-0"))
    events = [b'{"n":%d,"v":%s}' % (n, value.encode()) for n, value in enumerate(VALUES)]
    sent = direct.deliver(batch_of(events, "b-1"))
    has_nul = [n for n, value in enumerate(VALUES) if r"\u0000" in value]
    assert list(sent.refused) == (has_nul if direct.options["destination"] == "postgres" else [])
    rows = {row.pop("n"): row for row in direct.rows() if "n" in row}
    for n, value in enumerate(VALUES):
        if n not in sent.refused:
            [(column, stored)] = rows[n].items()
            assert is_as_written(value, stored), (value, column, stored)


# Once without what a line of COPY may have to escape, once with it.
SPECIAL = ["\t", "\n", "\r", "\x1c", "\x1d", "\x1e", "\x1f", "\\", "\\N", "\\.", '"', ""]
TEXTS = [
    pytest.param(st.text(st.characters(codec="utf-8", min_codepoint=1)), id="any"),
    pytest.param(
        st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))), id="printable", marks=pytest.mark.thorough
    ),
    pytest.param(st.text(st.sampled_from("".join(SPECIAL)), max_size=3), id="special", marks=pytest.mark.thorough),
]


@pytest.mark.parametrize("texts", TEXTS)
def test_any_text_comes_back(direct: Place, texts: st.SearchStrategy[str]) -> None:
    """Texts, also within JSON, and missing values are stored as they are in the events."""
    optional = {"a": texts, "listed": st.lists(texts, max_size=2), "f": st.floats(-1e9, 1e9), "b": st.booleans()}
    events = st.lists(st.fixed_dictionaries({"t": texts}, optional=optional), min_size=1, max_size=40)
    tables = itertools.count()

    @settings(max_examples=6, deadline=None)
    @given(events)
    def deliver(events: list[dict[str, Any]]) -> None:
        lines = [json.dumps({"n": n, **event}, ensure_ascii=n % 2 == 0).encode() for n, event in enumerate(events)]
        table = f"events_{next(tables)}"
        assert direct.deliver(batch_of(lines, "b-0"), table_name=table).accepted == len(events)
        rows = {row.pop("n"): row for row in direct.rows(table)}
        for row in rows.values():
            if "listed" in row:
                row["listed"] = json.loads(row["listed"])
        assert rows == dict(enumerate(events))

    for special in SPECIAL:
        deliver = example([{"t": special}, {"t": f"a{special}b", "listed": [special]}])(deliver)
    deliver()


@pytest.mark.parametrize(
    "rules", [{}, {"overflow": "quarantine"}, {"schema_contract": "freeze"}], ids=["json", "quarantine", "freeze"]
)
def test_every_pair_of_kinds_has_its_place(direct: Place, rules: dict[str, Any]) -> None:
    """Of two kinds in one member, null and missing among them, neither is lost, however many columns there may be.

    The second is in its column or beside it. Where the table is full it is in ``_overflow``, or that event is refused;
    as it is where the table is frozen. The event beside it, and what comes after, is loaded all the same.
    """
    pairs = [(one, other) for one in (*OF_EACH_KIND, "null", None) for other in (*OF_EACH_KIND, "null", None)]
    made = [b'{"n":-1}', *(event({f"m{number}": one}) for number, (one, _) in enumerate(pairs))]
    direct.deliver(batch_of(made, "b-0"), **rules)
    known = len({name for row in direct.all_rows() for name in row})
    events = [event({"n": str(number), f"m{number}": other}) for number, (_, other) in enumerate(pairs)]
    sent = direct.deliver(batch_of(events, "b-1"), max_columns=known, **rules)
    rows = {row.pop("n"): row for row in direct.rows() if row.get("n", -1) >= 0}
    for number, (one, other) in enumerate(pairs):
        if number in sent.refused:
            assert rules
            assert other not in ("null", None)
            assert kind_of(one) != kind_of(other)
            continue
        row = rows[number]
        overflowed = json.loads(row.pop("_overflow", "{}"), parse_float=str)
        stored = [*row.values(), *overflowed.values()]
        if other in ("null", None):
            assert stored == []
        else:
            assert len(stored) == 1, (one, other, stored)
            assert is_as_written(other, stored[0]), (one, other, stored)
            assert not (overflowed and rules)
    assert direct.deliver(batch_of([b'{"n":9999}'], "b-2"), max_columns=known, **rules).accepted == 1


def event(members: dict[str, str | None]) -> bytes:
    """Of members in JSON, without those that are missing."""
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items() if value is not None) + "}").encode()


def kind_of(value: str | None) -> str:
    return "missing" if value in (None, "null") else type(json.loads(value)).__name__ if value != "1e999" else "digits"


def is_as_written(value: str, stored: Any) -> bool:
    """Whether *stored* says what *value*, JSON, does."""
    if value.lstrip("-")[0].isdigit():
        written = Decimal(value)
        if isinstance(stored, str) and Decimal(stored) == written:
            return True
        if isinstance(stored, int):
            return stored == written
        # A double says what was written by one of the ways in which doubles are printed, or is exactly that.
        double = float(stored)
        return written in (Decimal(double), Decimal(repr(double)), Decimal(f"{double:.17g}"))
    parsed = json.loads(value)
    return stored == parsed or (isinstance(stored, str) and stored[:1] in '"{[tf' and json.loads(stored) == parsed)


def test_numbers_are_not_rounded(place: Place) -> None:
    """Where doubles are, 9007199254740993 keeps its digits, and so does what 64 bits do not hold."""
    place.deliver(batch_of([b'{"n":1,"amount":1.5,"serial":1,"b":true}'], "b-1"))
    events = [
        b'{"n":3,"amount":9007199254740993,"b":7}',
        b'{"n":4,"amount":4.5,"serial":9223372036854775809}',
        b'{"n":5,"amount":1e999}',
    ]
    assert place.deliver(batch_of(events, "b-2")).accepted == 3
    values = {row.pop("n"): sorted(map(str, row.values())) for row in place.rows()}
    assert values == {
        1: ["1", "1.5", "True"],
        3: ["7", "9007199254740993"],
        4: ["4.5", "9223372036854775809"],
        5: ["1e999"],
    }


def test_nul_is_stored_or_refused(place: Place) -> None:
    """No text is stored without its U+0000, at whatever depth it is."""
    events = [b'{"n":0,"s":"a\\u0000b"}', b'{"n":1,"o":{"s":"c\\u0000d"}}', b'{"n":2,"s":"ab"}']
    sent = place.deliver(batch_of(events, "b-1"))
    rows = {row["n"]: row for row in place.rows()}
    assert set(rows) | set(sent.refused) == {0, 1, 2}
    assert all("U+0000" in reason for reason in sent.refused.values())
    assert rows.get(0, {}).get("s") in (None, "a\0b")
    assert "cd" not in str(rows.get(1))
    assert rows[2]["s"] == "ab"


def test_an_event_with_too_many_members_keeps_them_in_json(place: Place) -> None:
    """The events beside it and after it get their columns as if it had never come."""
    many = {f"p{n:04}": n for n in range(1_700)}
    events = [b'{"n":"1"}', json.dumps({"n": "2", **many}).encode(), b'{"n":"3"}']
    assert place.deliver(batch_of(events, "b-1")).accepted == 3
    assert place.deliver(batch_of([b'{"n":"4","late":5}'], "b-2")).accepted == 1
    rows = {row["n"]: row for row in place.rows()}
    assert rows["4"] == {"n": "4", "late": 5}
    assert json.loads(rows["2"]["_overflow"]) == many


def test_an_event_with_too_many_members_is_refused_where_told(direct: Place) -> None:
    """With ``overflow: quarantine`` that event alone."""
    many = json.dumps({"n": 2, **{f"p{n:04}": n for n in range(50)}}).encode()
    sent = direct.deliver(batch_of([b'{"n":1}', many, b'{"n":3}']), overflow="quarantine", max_columns=20)
    assert list(sent.refused) == [1]
    assert "no room" in sent.refused[1]
    assert [row["n"] for row in direct.rows()] == [1, 3]


@pytest.mark.parametrize(
    ("count", "value"), [(950, 2**60), (600, 1.5), (500, "x" * 100), (400, "y" * 20), (900, True), (900, [1, 2, 3])]
)
def test_a_row_longer_than_a_page_of_postgres(
    count: int, value: object, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What PostgreSQL cannot hold in one row of 8,160 bytes overflows; every value is found, none stops the others."""
    with opened("postgres", request, tmp_path) as place:
        members = {f"p{n:03}": value for n in range(count)}
        for number in range(2):
            wide = json.dumps({"n": 2, **members}).encode()
            assert place.deliver(batch_of([b'{"n":1,"p000":null}', wide], f"b-{number}")).accepted == 2
        # In columns that the table has already, one event after the other.
        parts = [{name: members[name] for name in list(members)[at : at + 100]} for at in range(0, count, 100)]
        assert place.deliver(batch_of([json.dumps(part).encode() for part in parts], "b-3")).accepted == len(parts)
        assert place.deliver(batch_of([wide], "b-4")).accepted == 1
        for row in [row for row in place.rows() if row.get("n") == 2]:
            rest = json.loads(row.pop("_overflow", "{}"))
            found = {
                name: json.loads(one) if isinstance(one, str) and one[:1] == "[" else one for name, one in row.items()
            }
            assert found | rest == {"n": 2, **members}


def test_a_table_with_as_many_columns_as_postgres_takes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Dropped columns count in PostgreSQL; new members overflow, and nothing is tried for ever."""
    with opened("postgres", request, tmp_path) as place:
        batches = [[b'{"p%d_%d":%d}' % (number, n, n) for n in range(400)] for number in range(4)]
        for number, events in enumerate(batches):
            assert place.deliver(batch_of(events, f"b-{number}"), max_columns=9_999).accepted == 400
        assert place.deliver(batch_of([b'{"one":1,"two":{"x":2}}'], "b-9"), max_columns=9_999).accepted == 1
        overflowed = [json.loads(row["_overflow"]) for row in place.rows() if "_overflow" in row]
        assert {"one": 1, "two": {"x": 2}} in overflowed
        assert len(place.rows()) == 1_601


def test_equal_events_are_a_row_each(place: Place) -> None:
    """Within a batch, across batches and across days; and a repeat of each batch adds none."""
    event = b'{"same":1}'
    for _ in range(2):
        for number, count in enumerate((3, 2)):
            place.deliver(batch_of([event] * count, f"b-{number}"))
    assert len(place.rows()) == 5
    assert len({row["_event_id"] for row in place.all_rows()}) == 5


def test_equal_events_are_one_row_where_told(direct: Place) -> None:
    """With ``dedupe: content``; what was not inserted is counted."""
    if direct.options["destination"] == "filesystem":
        pytest.skip("files do not know what others hold")
    events = [b'{"same":1}', b'{"same":1}', b'{"other":2}']
    assert direct.deliver(batch_of(events, "b-1"), dedupe="content").details == (
        "2 rows inserted, 1 equal events skipped (dedupe: content)",
    )
    assert direct.deliver(batch_of(events, "b-2"), dedupe="content").details == (
        "0 rows inserted, 2 were already in the table, 1 equal events skipped (dedupe: content)",
    )
    assert len(direct.rows()) == 2


def test_dedupe_by_content_needs_a_table() -> None:
    """Files do not know what others hold."""
    with pytest.raises(ValueError, match="dedupe: content needs a table"):
        Warehouse(destination="filesystem", dedupe="content")


def test_a_replay_with_another_filter_adds_what_is_missing(direct: Place) -> None:
    """The same batch with other events of it: those that are there are counted, the others become rows."""
    batch = batch_of([b'{"event_type":"a"}', b'{"event_type":"b"}', b'{"event_type":"a"}', b'{"event_type":"c"}'])
    assert direct.deliver(batch, only=["a", "c"]).details == ("3 rows inserted",)
    assert direct.deliver(batch, **{"except": ["c"]}).details == ("1 rows inserted, 2 were already in the table",)
    assert direct.deliver(batch).details == ("0 rows inserted, 4 were already in the table",)


def test_a_replay_with_another_filter_overwrites_no_file(tmp_path: Path) -> None:
    """Of JSON lines another selection of a batch is another file, and the same selection the same file."""
    batch = batch_of([b'{"event_type":"a"}', b'{"event_type":"b"}'])
    place = Place({"destination": "filesystem", "url": str(tmp_path), "file_format": "jsonl"}, lambda table: [])
    for kind in ("a", "b", "a"):
        place.deliver(batch, only=[kind])
    files = (tmp_path / "export" / "events").iterdir()
    lines = [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert sorted(json.loads(line)["event_type"] for line in lines) == ["a", "b"]


def test_equal_events_of_a_batch_that_was_divided(direct: Place) -> None:
    """If the database refuses an event, its batch is halved: equal events of the halves are rows anyway."""
    place = direct
    place.deliver(batch_of([b'{"a":1}'], "b-0"))
    if place.options["destination"] != "postgres":
        pytest.skip("nothing that DuckDB would refuse is handed to it, and files refuse nothing")
    from sqlalchemy import NullPool, create_engine, text

    engine = create_engine(
        place.options["connection"].replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool
    )
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE export.events ADD CONSTRAINT small CHECK (a < 5)"))
    batch = batch_of([b'{"a":1}', b'{"a":1}', b'{"a":9}', b'{"a":1}'], "b-1")
    for _ in range(2):
        assert list(place.deliver(batch).refused) == [2]
    assert len(place.rows()) == 4
