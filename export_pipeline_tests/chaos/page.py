"""The table of faults, printed and written into docs/reliability.md between its marks."""

import re
from datetime import datetime, timezone
from pathlib import Path

from export_pipeline_tests.chaos.account import FAILED, KILLED, THROUGH, Account

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_MARKED = re.compile(r"(<!-- chaos: begin[^>]*-->\n).*?(<!-- chaos: end -->)", re.DOTALL)


def table(account: Account, *, seed: int, seconds: float) -> str:
    """What happened, how often, and what came of it, in Markdown."""
    kills = sum(outcomes[KILLED] for name, outcomes in account.outcomes.items() if name.startswith("SIGKILL"))
    date = datetime.now(timezone.utc).date().isoformat()
    lines = [
        f"{date}, seed {seed}, {seconds:,.0f} s: {account.campaigns} campaigns of {account.runs:,} runs, {kills:,} of "
        "them killed. A run may appear in two lines: once for what happened around it, once for how it was killed.",
        "",
        f"| what happened | runs | {THROUGH} | {FAILED} | {KILLED} | batches sent again |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, outcomes in sorted(account.outcomes.items()):
        cells = [sum(outcomes.values()), *(outcomes[one] for one in (THROUGH, FAILED, KILLED)), account.repeats[name]]
        lines.append(f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    lines += ["", "Events delivered, all of them, each once: "]
    lines[-1] += ", ".join(f"{name} {count:,}" for name, count in sorted(account.delivered.items())) + "."
    lines += [f"Promises broken: {len(account.broken)}."]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in account.broken)])


def write_page(account: Account, *, seed: int, seconds: float) -> None:
    """Put the table between the marks.

    Raises:
        ValueError: the page has no marks.
    """
    page = PAGE.read_text(encoding="utf-8")
    if not _MARKED.search(page):
        raise ValueError(f"{PAGE}: the marks <!-- chaos: begin --> and <!-- chaos: end --> are missing")
    text = table(account, seed=seed, seconds=seconds)
    PAGE.write_text(_MARKED.sub(lambda marks: f"{marks[1]}{text}\n{marks[2]}", page), encoding="utf-8")
