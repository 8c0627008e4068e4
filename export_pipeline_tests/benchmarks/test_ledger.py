"""How the benchmark of the ledger compares sizes."""

from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from benchmarks.ledger_fill import Shape, file_of, fill
from benchmarks.ledger_tick import MadeUpSource
from benchmarks.ledger_turns import Filled, Measured, measure
from export_pipeline.ledger.database import Ledger

LAST_DAY = date(2026, 11, 23)


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[list[Filled]]:
    """One of two days, and one of six."""
    opened = []
    for days in (2, 6):
        shape = Shape("file:///made-up", LAST_DAY, days, files_a_day=200)
        ledger = Ledger(str(tmp_path / f"{days}.db"))
        fill(ledger, shape, now=datetime(2026, 11, 23, 23, tzinfo=timezone.utc))
        measured = Measured("sqlite", days * 200, megabytes=0, fill_seconds=0)
        opened.append(Filled(ledger, MadeUpSource(shape), file_of(LAST_DAY, 199).key, lambda: 0, measured))
    yield opened
    for one in opened:
        one.ledger.close()


def test_sizes_take_turns(ledgers: list[Filled], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks are timed in turns, forth and back, and compared with the first ledger's of the same turn."""
    ticked: list[int] = []
    real_tick = Filled.tick

    def tick(one: Filled) -> None:
        ticked.append(one.measured.files)
        real_tick(one)

    monkeypatch.setattr(Filled, "tick", tick)
    measure(ledgers, ticks=3)
    small, large = (one.measured for one in ledgers)
    assert ticked[-6:] == [400, 1_200, 1_200, 400, 400, 1_200]
    assert ticked.count(400) == ticked.count(1_200)
    assert small.cpu_ratio == 1
    assert 0 < large.cpu_ratio != 1
    assert small.work["statements"] == large.work["statements"] > 0
    assert small.work["instructions"] > 0
    assert small.cpu_ms > 0
    assert small.wall_ms > 0
