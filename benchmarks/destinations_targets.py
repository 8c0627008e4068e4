"""What the destinations may cost, and whether they do: tables of ``make bench-destinations``."""

from collections.abc import Mapping

from benchmarks.destinations_whole import Whole
from benchmarks.markdown import table

MOST_MEMORY_MIB = 400
MOST_LOAD_SECONDS = 0.3
_HEAD = ["what", "target", "measured", "met"]
_OF_FLOOR = {
    "mixpanel": 0.45,
    "amplitude": 0.45,
    "posthog": 0.45,
    "segment": 0.45,
    "segment, legacy_message_ids": 0.28,
}
_OF_OTHERS = {
    "warehouse, DuckDB": ("DuckDB `read_json`", 1 / 1.5),
    "warehouse, Parquet files": ("dlt alone, Parquet files", 10.0),
}
"""Ratios of events per CPU second."""
_OF_OTHERS_IN_TIME = {"warehouse, PostgreSQL": ("PostgreSQL `COPY`", 0.7)}
"""Ratios of events per second: while PostgreSQL's server stores rows, the next ones are read."""


def targets_of_runs(floor: str, whole: Whole) -> list[str]:
    """The table of those targets of whole runs that were measured, relative to *floor*."""
    rows = []
    for name, least in _OF_FLOOR.items():
        if name in whole.cpu_us and floor in whole.cpu_us:
            rate = whole.cpu_us[floor] / whole.cpu_us[name]
            rows.append(_row(f"{name}: rate ÷ {floor}", f"at least {least:.2f}", f"{rate:.2f}", rate >= least))
    return table(_HEAD, rows)


def targets_of_deliveries(
    cpu_us: Mapping[str, float],
    wall_us: Mapping[str, float],
    *,
    load_seconds: Mapping[str, float],
    load_mib: Mapping[str, float],
) -> list[str]:
    """The table of those targets of the delivery alone that were measured.

    Args:
        cpu_us, wall_us: way → microseconds per event.
        load_seconds: table → CPU seconds that one load into it takes, more than one into a new table.
        load_mib: table → the most memory of a load into it, above that of a process that only reads.
    """
    rows = []
    for what, found, targets in (
        ("events per CPU second", cpu_us, _OF_OTHERS),
        ("events per second", wall_us, _OF_OTHERS_IN_TIME),
    ):
        for name, (other, least) in targets.items():
            if name in found and other in found:
                rate = found[other] / found[name]
                rows.append(
                    _row(f"{name}: {what} ÷ those of {other}", f"at least {least:.2f}", f"{rate:.2f}", rate >= least)
                )
    for name, seconds in load_seconds.items():
        rows.append(
            _row(
                f"CPU of a load into {name} of DuckDB, above one into a new table",
                f"at most {MOST_LOAD_SECONDS} s",
                f"{seconds:.2f} s",
                seconds <= MOST_LOAD_SECONDS,
            )
        )
    for name, mib in load_mib.items():
        rows.append(
            _row(
                f"memory of a load into {name} of DuckDB, above empty",
                f"at most {MOST_MEMORY_MIB} MiB",
                f"{mib:.0f} MiB",
                mib <= MOST_MEMORY_MIB,
            )
        )
    return table(_HEAD, rows)


def _row(what: str, target: str, measured: str, is_met: bool) -> list[str]:
    return [what, target, measured, "yes" if is_met else "no"]
