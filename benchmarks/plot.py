"""The plot of ``make bench-scale``: ``python plot.py RESULTS OUTPUT``, by a Python that has matplotlib."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found, unused-ignore]

mpl.use("svg")
# Without these, the same figures would not give the same file.
mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]  # noqa: E402

_ROWS = (("wall, s", "wall_seconds", 1), ("CPU, s", "cpu_seconds", 1), ("peak memory, MiB", "peak_bytes", 1024 * 1024))


def main() -> None:
    """Draw a column for each series, with wall, CPU and memory below each other."""
    points: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text())
    names = list(dict.fromkeys(point["series"] for point in points))
    figure, axes = pyplot.subplots(
        len(_ROWS), len(names), figsize=(3.4 * len(names), 7.5), squeeze=False, layout="constrained"
    )
    for column, name in enumerate(names):
        found = [point for point in points if point["series"] == name and point["figures"]]
        for row, (label, key, unit) in enumerate(_ROWS):
            axis = axes[row][column]
            axis.plot([point["x"] for point in found], [point["figures"][key] / unit for point in found], "o-")
            axis.set_xscale("log", base=2 if name.startswith("subscribers") else 10)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
            if row == len(_ROWS) - 1:
                axis.set_xlabel(name.replace(", ", ",\n", 1))
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
