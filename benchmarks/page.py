"""Writes ``docs/benchmarks.md``: each make target writes its own part, between markers, and leaves the others."""

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import environment
from benchmarks.machine import description, first_line
from benchmarks.markdown import rewrite, table
from benchmarks.serving import ROOT
from benchmarks.targets import Target
from benchmarks.ways import CURL, DATA_PATH, EMPTY, EXPORT, PROTOTYPE

PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks-scale.svg"
_MIB = 1024 * 1024
_REASON_CHARACTERS = 160


def comparison(results: dict[str, Any]) -> str:
    """The table of all ways, and its explanation."""
    bucket, rows = results["data"], results["rows"]
    latencies = sorted({int(latency) for row in rows for latency in row["costs"]})
    ours = next((row for row in rows if row["name"] == EXPORT.name and row["costs"]), None)
    head = [
        "way",
        "version",
        "wall s",
        "(min–max)",
        "CPU s",
        "peak MiB",
        "events/s",
        "wall ÷ ours",
        "event bytes",
    ]
    head += [f"wall s at {latency} ms" for latency in latencies[1:]]
    lines = [
        f"{bucket['events']:,} events in {bucket['files']} gzip files ({bucket['stored_bytes'] / 1e6:.0f} MB stored, "
        f"{bucket['unpacked_bytes'] / 1e6:.0f} MB unpacked), from S3 on loopback to NDJSON on the local disk. The "
        f"server handles {results['answers_per_second']:,.0f} GETs of whole files per second from one client.",
        "",
        *table(head, (_way_cells(row, ours, latencies, bucket["events"]) for row in rows)),
        "",
        *(f"- {row['name']}: {row['what']}" for row in rows),
    ]
    return "\n".join([*lines, *_parts(rows)])


def _way_cells(row: dict[str, Any], ours: dict[str, Any] | None, latencies: Sequence[int], events: int) -> list[str]:
    if row["failure"]:
        reason = " ".join(row["failure"].split())[-_REASON_CHARACTERS:]
        return [row["name"], row["version"], f"not measured: {reason}"] + [""] * (5 + len(latencies))
    first, *others = [row["costs"].get(str(latency), []) for latency in latencies]
    wall = _median(first, "wall_seconds")
    cells = [
        row["name"],
        row["version"],
        f"{wall:.2f}",
        f"{min(c['wall_seconds'] for c in first):.2f}–{max(c['wall_seconds'] for c in first):.2f}",
        f"{_median(first, 'cpu_seconds'):.2f}",
        f"{_median(first, 'peak_bytes') / _MIB:.0f}",
        f"{events / wall:,.0f}" if row["events"] else "",
        f"{wall / _median(ours['costs'][str(latencies[0])], 'wall_seconds'):.2f}" if ours else "",
        ("unchanged" if row["is_exact"] else "rewritten") if row["events"] else "",
    ]
    return cells + [f"{_median(other, 'wall_seconds'):.2f}" if other else "not run" for other in others]


def _parts(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Where the data path spends its time, and what Dagster adds."""
    by_name = {row["name"]: row for row in rows if row["costs"]}
    path = by_name.get(DATA_PATH.name)
    if path is None or not path["parts"]:
        return
    yield from ("", "Time spent in the parts of the data path (medians; CPU of all threads):", "")
    parts = path["parts"]
    yield from table(
        ["part", "wall s", "CPU s"],
        ([name, *(f"{median(run[name][n] for run in parts):.2f}" for n in (0, 1))] for name in parts[0]),
    )
    if EXPORT.name in by_name and EMPTY.name in by_name:
        whole, empty = (_median(by_name[name]["costs"]["0"], "wall_seconds") for name in (EXPORT.name, EMPTY.name))
        yield from ("", f"The whole export takes {whole - empty:.2f} s more than the empty Dagster job.")


def targets(found: Sequence[dict[str, Any]]) -> str:
    """The targets, and what was measured."""
    cells = ([one["what"], one["target"], one["measured"], "yes" if one["is_met"] else "**no**"] for one in found)
    return "\n".join(table(["what", "target", "measured", "met"], cells))


def race_targets(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets of the data path, measured in the comparison; none for a way that is not in it."""
    walls = {row["name"]: _median(row["costs"]["0"], "wall_seconds") for row in results["rows"] if row["costs"]}
    found = []
    for other, most, what in ((PROTOTYPE, 1.5, "the prototype"), (CURL, 1.2, "`curl \\| zcat`")):
        if DATA_PATH.name in walls and other.name in walls:
            ratio = walls[DATA_PATH.name] / walls[other.name]
            measured = f"{ratio:.2f} ({walls[DATA_PATH.name]:.2f} s and {walls[other.name]:.2f} s)"
            promise = f"Wall time of the data path, staging and delivery included, relative to {what}"
            found.append(asdict(Target(promise, f"at most {most:g}", measured, ratio <= most)))
    return found


def scale(points: Sequence[dict[str, Any]]) -> str:
    """A table for each series."""
    lines = []
    for series in dict.fromkeys(point["series"] for point in points):
        lines += [f"### By {series}", ""]
        lines += table(
            ["", "wall s", "CPU s", "peak MiB", "events/s"],
            (_point_cells(point) for point in points if point["series"] == series),
        )
        lines.append("")
    return "\n".join(lines)


def _point_cells(point: dict[str, Any]) -> list[str]:
    found = point["figures"]
    if found is None:
        return [f"{point['x']:,}", f"failed: {' '.join(point['failure'].split())[-_REASON_CHARACTERS:]}", "", "", ""]
    delivered = 0 if "none of them new" in point["series"] else point["events"]
    return [
        f"{point['x']:,}",
        f"{found['wall_seconds']:.2f}",
        f"{found['cpu_seconds']:.2f}",
        f"{found['peak_bytes'] / _MIB:.0f}",
        f"{delivered / found['wall_seconds']:,.0f}" if delivered else "",
    ]


def _median(costs: Sequence[dict[str, Any]], key: str) -> float:
    return float(median(cost[key] for cost in costs))


def _conditions(disturbance: float) -> str:
    tools = ", ".join(filter(None, (first_line("curl", "--version").split(" (")[0], first_line("zcat", "--version"))))
    return (
        f"Measured on {date.today():%Y-%m-%d} on {description()}; {tools}. During the counted runs, other processes "
        f"used at most {disturbance:.2f} cores on average."
    )


def _draw(results: Path, root: Path) -> None:
    found = environment(root / "environments" / "matplotlib", ("matplotlib",))
    subprocess.run([found.python, str(ROOT / "benchmarks" / "plot.py"), str(results), str(PLOT)], check=True)


def main() -> None:
    """Write the part named on the command line, from its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["bench", "bench-scale"])
    parser.add_argument("--root", type=Path, default=Path(".bench"))
    given = parser.parse_args()
    results = given.root / "results"
    if given.part == "bench":
        race = json.loads((results / "compare.json").read_text())
        disturbance = max(
            cost["foreign_cores"] for row in race["rows"] for costs in row["costs"].values() for cost in costs
        )
        promised = race_targets(race) + json.loads((results / "targets.json").read_text())
        text = "\n\n".join([_conditions(disturbance), comparison(race), "### Targets", targets(promised)])
    else:
        points = json.loads((results / "scale.json").read_text())
        disturbance = max(point["figures"]["foreign_cores"] for point in points if point["figures"])
        _draw(results / "scale.json", given.root)
        text = "\n\n".join([_conditions(disturbance), f"![Wall, CPU and memory]({PLOT.name})", scale(points)])
    rewrite(PAGE, given.part, text)
    print(text)


if __name__ == "__main__":
    main()
