"""The figures of :mod:`benchmarks.millions` as tables, in docs/scale.md."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any

from benchmarks.machine import description
from benchmarks.millions_world import FILES_AN_HOUR
from benchmarks.page import rewritten, table
from benchmarks.serving import ROOT

PAGE = ROOT / "docs" / "scale.md"
MARK = "millions"
_HOURS = 24
# Of us-east-1, S3 Standard and a standard queue of SQS, without the free tier; the page names source and date.
LIST_DOLLARS, GET_DOLLARS, SQS_DOLLARS = 0.005 / 1_000, 0.0004 / 1_000, 0.40 / 1_000_000
# The lookback, and on average half of the hour at whose first key a listing begins.
_WINDOW_HOURS = 26.5
# Once a day, from the last listing less the lookback on.
_DAILY_HOURS = 24 + _WINDOW_HOURS


@dataclass(frozen=True, slots=True)
class Way:
    """How new files are found, and the requests that takes in a day."""

    name: str
    lists: float
    sqs: float

    @property
    def dollars(self) -> float:
        """A day's requests to find files."""
        return self.lists * LIST_DOLLARS + self.sqs * SQS_DOLLARS


def ways(results: Mapping[str, Any]) -> list[Way]:
    """Listing at every tick, of a minute and of ten, and notifications."""
    files_a_day = FILES_AN_HOUR * _HOURS
    keys_a_request = results["listing"]["files"] / results["listing"]["requests"]
    listing = FILES_AN_HOUR * _WINDOW_HOURS / keys_a_request
    counts, found = results["counts"], sum(tick["files"] for tick in results["ticks"])
    asked = (counts["ReceiveMessage"] + counts["DeleteMessageBatch"]) / found
    return [
        Way("listing every minute", listing * 60 * _HOURS, 0),
        Way("listing every ten minutes", listing * 6 * _HOURS, 0),
        Way(
            "notifications, and a listing once a day",
            FILES_AN_HOUR * _DAILY_HOURS / keys_a_request,
            files_a_day * (1 + asked),
        ),
    ]


def text(results: Mapping[str, Any]) -> str:
    """All tables."""
    listing, read = results["listing"], results["read"]
    a_tick = listing["wall_seconds"] / listing["files"] * FILES_AN_HOUR * _WINDOW_HOURS
    rate = read["files"] / read["wall_seconds"]
    head = ["minutes", "files", "messages", "find: wall s", "CPU s", "keep: wall s", "CPU s"]
    money = ["way to find files", "LIST", "SQS", "$ to find", "GET", "$ to read"]
    lines = [
        "### A tick of a minute",
        "",
        *table(head, _ticks(results["ticks"])),
        "",
        "Find: all requests to the queue, reading the messages, asking the ledger, planning, removing. Keep: choosing",
        "what to do, and all that reading and delivering to two subscribers write to the ledger. Medians; the last",
        "request of each tick waits a second for more messages.",
        "",
        "### The ledger",
        "",
        *table(["", "rows or size"], _ledger(results)),
        "",
        "### Listing instead",
        "",
        f"A listing of {listing['files']:,} files, all known: {listing['requests']:,} LIST requests, "
        f"{listing['wall_seconds']:.1f} s, {listing['cpu_seconds']:.1f} s of CPU, asking the ledger included.",
        "A lookback of 26 hours at a million files an hour is "
        f"{_WINDOW_HOURS} million keys on average: {a_tick:,.0f} s "
        "a tick, computed from the above.",
        "",
        "### Requests and dollars a day",
        "",
        *table(money, map(_money, ways(results))),
        "",
        "### Reading",
        "",
        f"One run of `export_job`, with Dagster, over {read['files']:,} gzip files of "
        f"{read['events'] // read['files']} events ({read['stored_bytes'] / 1e6:.0f} MB stored),",
        f"from S3 on loopback to one local folder: {read['wall_seconds']:.1f} s, {read['cpu_seconds']:.1f} s of CPU, "
        f"{read['peak_bytes'] / 1e6:.0f} MB at its peak. That is **{rate:,.0f} files a second**,",
        f"{rate * 3_600 / 1e6:.1f} million an hour; median of 3 runs.",
        "",
        f"Measured on {date.today():%Y-%m-%d} on {description()}; SQLite.",
    ]
    return "\n".join(lines)


def write(results: Mapping[str, Any]) -> None:
    """Put the figures into the page."""
    made = text(results)
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), MARK, made), encoding="utf-8")
    print(made)


def _ticks(ticks: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    part = max(1, len(ticks) // 4)
    for first in range(0, len(ticks), part):
        some = ticks[first : first + part]
        yield [
            f"{first + 1}–{first + len(some)}",
            f"{median(one['files'] for one in some):,.0f}",
            f"{median(one['messages'] for one in some):,.0f}",
            *(
                f"{median(one[name] for one in some):.2f}"
                for name in ("find_wall_seconds", "find_cpu_seconds", "keep_wall_seconds", "keep_cpu_seconds")
            ),
        ]


def _ledger(results: Mapping[str, Any]) -> Iterator[list[str]]:
    ticks, folded = results["ticks"], results["folded"]
    hours = len(ticks) / 60
    full_mb, kept_mb = ticks[-1]["ledger_bytes"] / 1e6, folded["bytes_after"] / 1e6
    yield [f"rows after {hours:g} h", ", ".join(f"{number:,} {name}" for name, number in results["rows"].items())]
    yield [f"size after {hours:g} h", f"{full_mb:,.0f} MB"]
    yield ["growth a day, kept in full", f"{full_mb / hours * _HOURS:,.0f} MB"]
    yield ["growth a day, once folded (`ledger.keep_days`)", f"{kept_mb / hours * _HOURS:,.0f} MB"]
    cost = f"{folded['wall_seconds']:.1f} s, {folded['cpu_seconds']:.1f} s of CPU"
    yield [f"folding {int(folded['manifests']):,} manifests", cost]


def _money(way: Way) -> list[str]:
    files = FILES_AN_HOUR * _HOURS
    return [
        way.name,
        f"{way.lists:,.0f}",
        f"{way.sqs:,.0f}",
        f"{way.dollars:,.2f}",
        f"{files:,}",
        f"{files * GET_DOLLARS:,.2f}",
    ]
