"""``make chaos``: the long form. CHAOS_SEED, CHAOS_SECONDS and CHAOS_ROUNDS say how it goes."""

import os
import sys
import tempfile
from pathlib import Path

from export_pipeline_tests.chaos.page import table, write_page
from export_pipeline_tests.chaos.suite import run_suite


def main() -> int:
    """Run, print and write the table; 1 where a promise was broken."""
    seed = int(os.environ.get("CHAOS_SEED", "1"))
    seconds = float(os.environ.get("CHAOS_SECONDS", "900"))
    rounds = int(os.environ.get("CHAOS_ROUNDS", "50"))
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    account = run_suite(folder, seed=seed, seconds=seconds, rounds=rounds, dagster_every=12, daemon_every=4)
    print(table(account, seed=seed, seconds=seconds))
    if account.broken:
        print(f"what the campaigns left behind is in {folder}")
        return 1
    write_page(account, seed=seed, seconds=seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
