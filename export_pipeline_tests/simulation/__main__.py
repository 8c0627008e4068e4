"""``make simulate``: SIMULATE_SECONDS (1800) of it, by SIMULATE_SEED (today's date); or one failure again.

To see one again: ``python -m export_pipeline_tests.simulation "<scenario>: step 3 (run) dies at seam 27: …"`` or
``… "<pair> [A stops at its seam 12]"``, as the failure is printed.
"""

import os
import re
import sys
import time
from datetime import date

from export_pipeline_tests.simulation.crashes import Death, replay
from export_pipeline_tests.simulation.pairs import PAIRS
from export_pipeline_tests.simulation.play import Stage, stage
from export_pipeline_tests.simulation.report import simulate, table, write
from export_pipeline_tests.simulation.scenarios import SCENARIOS
from export_pipeline_tests.simulation.schedules import ENDLESS, Schedule, begin, race_once

_DEATH = re.compile(r"step (\d+) \((.*?)\) dies( for good)? at seam (\d+)")
_STOP = re.compile(r"([AB]) (?:stops at its seam (\d+)|goes first)")
_DIES = re.compile(r"([AB]) dies at its seam (\d+)")


def main() -> int:
    """Simulate, or show one failure again."""
    with stage() as made:
        if len(sys.argv) > 1:
            broken = once_more(made, sys.argv[1])
            print(*(broken or ["every promise is kept"]), sep="\n")
            return int(bool(broken))
        seconds = float(os.environ.get("SIMULATE_SECONDS", "1800"))
        seed = int(os.environ.get("SIMULATE_SEED", date.today().strftime("%Y%m%d")))
        began, lines = time.process_time(), []
        for line in simulate(made, seconds=seconds, seed=seed):
            lines.append(line)
            print(f"{line.what}: {line.tried:,} of {line.of}, {len(line.broken)} broken", flush=True)
            print(*line.broken[:20], sep="\n", end="\n" if line.broken else "")
            write(table(lines, seconds=time.process_time() - began, seed=seed))
    return int(any(line.broken for line in lines))


def once_more(stage: Stage, name: str) -> list[str]:
    """What breaks in the failure of this name; of a pair, what each was about to do is printed."""
    pair = next((one for key, one in PAIRS.items() if name.startswith(f"{key} [")), None)
    if pair is None:
        scenario = next(one for key, one in SCENARIOS.items() if name.startswith(f"{key}: "))
        deaths = [Death(int(step), int(seam), what, bool(good)) for step, what, good, seam in _DEATH.findall(name)]
        return replay(scenario, stage.world, stage.begin, deaths)
    stops = tuple(("AB".index(who), int(at or ENDLESS)) for who, at in _STOP.findall(name))
    dies = _DIES.search(name)
    schedule = Schedule(stops, ("AB".index(dies[1]), int(dies[2])) if dies else None)
    trace: list[str] = []
    broken = race_once(pair, stage, begin(pair, stage), schedule, trace=trace)
    print(*trace, sep="\n")
    return broken


if __name__ == "__main__":
    sys.exit(main())
