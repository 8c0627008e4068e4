"""The figures of :mod:`benchmarks.millions` as tables, in docs/scale.md."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any

from benchmarks.machine import description
from benchmarks.markdown import rewrite, table
from benchmarks.millions_world import FILES_AN_HOUR
from benchmarks.serving import ROOT
from export_pipeline.source.queue import REQUESTS_AT_ONCE

PAGE = ROOT / "docs" / "scale.md"
MARK = "millions"
_HOURS = 24
# Of one request, for computed figures.
_SQS_SECONDS = 0.01
# For us-east-1, S3 Standard and a standard SQS queue, without the free tier; the page has source and date.
LIST_DOLLARS, GET_DOLLARS, SQS_DOLLARS = 0.005 / 1_000, 0.0004 / 1_000, 0.40 / 1_000_000
# The lookback, plus on average half of the hour at whose first key a listing begins.
_WINDOW_HOURS = 26.5
# Once a day, from the last listing less the lookback.
_DAILY_HOURS = 24 + _WINDOW_HOURS


@dataclass(frozen=True, slots=True)
class Way:
    """How new files are found, and the requests it takes per day."""

    name: str
    lists: float
    sqs: float

    @property
    def dollars(self) -> float:
        """The cost of a day's requests to find files."""
        return self.lists * LIST_DOLLARS + self.sqs * SQS_DOLLARS


def ways(results: Mapping[str, Any]) -> list[Way]:
    """Listing at every tick, every minute and every ten minutes, and notifications."""
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
    """All tables, and the conclusions from them."""
    head = ["minutes", "files", "messages", "discovery: wall s", "CPU s", "bookkeeping: wall s", "CPU s"]
    money = ["discovery", "LIST", "SQS", "$ for discovery", "GET", "$ for reading"]
    lines = [
        "### Cost of a tick (one minute of files)",
        "",
        *table(head, _ticks(results["ticks"])),
        "",
        "Discovery: all requests to the queue, parsing messages, querying the ledger, planning, deleting messages.",
        "Bookkeeping: choosing manifests, and all ledger writes of reading and delivering to two subscribers. Medians;",
        "the last request of each tick waits a second for more messages.",
        "",
        "### Size of the ledger",
        "",
        *table(["", "rows or size"], _ledger(results)),
        "",
        "### Listing without notifications",
        "",
        *_listing(results["listing"]),
        "",
        "### Requests and cost per day",
        "",
        *table(money, map(_money, ways(results))),
        "",
        "### Reading",
        "",
        *_reading(results["read"]),
        "",
        "### Maximum throughput",
        "",
        *_limit(results),
        "",
        f"Measured on {date.today():%Y-%m-%d} on {description()}; SQLite.",
    ]
    return "\n".join(lines)


def _listing(listing: Mapping[str, float]) -> Iterator[str]:
    seconds_a_key = listing["wall_seconds"] / listing["files"]
    keys_a_day = FILES_AN_HOUR * _HOURS
    lists_a_day = keys_a_day * listing["requests"] / listing["files"]
    yield (
        f"A listing of {listing['files']:,} files, all known: {listing['requests']:,} LIST requests, "
        f"{listing['wall_seconds']:.1f} s, {listing['cpu_seconds']:.1f} s of CPU, including queries of the ledger."
    )
    yield (
        f"A lookback of 26 hours at a million files per hour covers {_WINDOW_HOURS} million keys on average: "
        f"{seconds_a_key * FILES_AN_HOUR * _WINDOW_HOURS:,.0f} s"
    )
    yield "per tick, computed from the above. `check_job`, if enabled, also lists: `completeness` all of the last"
    yield (
        f"`checks.days` days ({lists_a_day:,.0f} LIST requests, ${lists_a_day * LIST_DOLLARS:.2f} and "
        f"{seconds_a_key * keys_a_day:,.0f} s for each of them), `freshness` what the next listing will."
    )


def _reading(read: Mapping[str, float]) -> Iterator[str]:
    rate = read["files"] / read["wall_seconds"]
    yield (
        f"One run of `export_job`, with Dagster, over {read['files']:,} gzip files of "
        f"{read['events'] // read['files']} events ({read['stored_bytes'] / 1e6:.0f} MB stored),"
    )
    yield (
        f"from S3 on loopback to one local folder: {read['wall_seconds']:.1f} s, {read['cpu_seconds']:.1f} s of CPU, "
        f"{read['peak_bytes'] / 1e6:.0f} MB at its peak. That is **{rate:,.0f} files per second**,"
    )
    yield f"{rate * 3_600 / 1e6:.1f} million per hour; medians of 3 runs."


def _limit(results: Mapping[str, Any]) -> Iterator[str]:
    ticks, counts, read = results["ticks"], results["counts"], results["read"]
    files = sum(tick["files"] for tick in ticks)
    find, keep = (median(tick[f"{part}_wall_seconds"] for tick in ticks) for part in ("find", "keep"))
    a_tick = files / len(ticks)
    reading = read["wall_seconds"] / read["files"] * a_tick
    whole = find + keep + reading
    requests = (counts["ReceiveMessage"] + counts["DeleteMessageBatch"]) / len(ticks)
    away = requests * _SQS_SECONDS / REQUESTS_AT_ONCE
    yield (
        f"Of each minute, discovery takes {find:.1f} s, bookkeeping {keep:.1f} s, reading and delivering to a folder "
        f"{reading:.1f} s: {whole:.0f} s of 60. On"
    )
    yield (
        f"this machine the limit is {FILES_AN_HOUR / whole * 60 / 1e6:.1f} million files per hour. Reading is the "
        "first bottleneck, and can be spread over"
    )
    yield (
        f"workers; discovery is done by one run at a time, {a_tick / find:,.0f} files per second here. Each "
        f"{_SQS_SECONDS * 1_000:.0f} ms of SQS's response time makes a tick"
    )
    yield (
        f"{away:.1f} s longer than on loopback ({requests:,.0f} requests, {REQUESTS_AT_ONCE} at a time): computed, not "
        "measured."
    )


def write(results: Mapping[str, Any]) -> None:
    """Put the figures into the page."""
    made = text(results)
    rewrite(PAGE, MARK, made)
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
