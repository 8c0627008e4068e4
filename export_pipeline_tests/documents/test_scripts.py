"""The Python files that pages show, as a user would use them."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from export_pipeline.ledger import manifests, planning, records, sources, subscriptions, unreadable
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.records import Run
from export_pipeline.ledger.tables import metadata
from export_pipeline_tests.documents.blocks import block_of_file
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.ledger.test_manifests import DAY, NOW, deliver, file, plan, read


def test_the_function_of_altis_md_receives_every_event(tmp_path: Path) -> None:
    """The function, copied as it is and named as the page names it, gets every event with the batch's id."""
    project = Project(tmp_path, subscribers={"mine": {"type": "python", "function": "my_package.analytics:receive"}})
    project.keep_what_is_printed()
    block = block_of_file("my_package/analytics.py")
    path = project.root / block.file
    path.parent.mkdir()
    path.write_text(block.text, encoding="utf-8")
    kinds = ["pageView", "click", "_session.stop"]
    project.put("2026/11/23/00/1.gz", [{"event_type": kind} for kind in kinds])
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "job", "execute", "-m", "export_pipeline.definitions", "-j", "export_job"],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # As Dagster has kept it: of what it repeats on its own output the end can be missing on a busy machine.
    (kept,) = project.home.glob("storage/*/compute_logs/*.out")
    printed = [line.split() for line in kept.read_text(encoding="utf-8").splitlines() if line.endswith(tuple(kinds))]
    assert [line[-1] for line in printed] == kinds
    assert all(line[0].endswith("-0") for line in printed)


def copied(old: Path | str, new: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    script = folder / "copy_ledger.py"
    script.write_text(block_of_file("copy_ledger.py").text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script), str(old), new],
        cwd=folder,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, sorted."""
    with ledger.read() as tx:
        return {
            table.name: sorted(
                map(dict, tx.execute(select(table)).mappings()), key=lambda row: str(sorted(row.items(), key=str))
            )
            for table in metadata.sorted_tables
        }


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_the_ledger_is_moved_whole(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """copy_ledger.py copies every row, references between manifests included; the new ledger goes on from there."""
    new_url = request.getfixturevalue("new_postgres") if kind == "postgresql" else str(tmp_path / "new.db")
    old = Ledger(str(tmp_path / "old.db"))
    first, (crm,) = plan(old, "2026/11/23/a", "2026/11/23/b")
    read(old, first)
    deliver(old, first, crm)
    torn, _ = plan(old, "2026/11/23/c", "2026/11/23/d")
    with old.write() as tx:
        manifest = manifests.get(tx, torn)
        unreadable.isolate(tx, manifest, {"2026/11/23/d": "torn"}, url="file:///bucket", run=Run("run-2", NOW))

    done = copied(tmp_path / "old.db", new_url, tmp_path)
    assert done.returncode == 0, done.stderr
    new = Ledger(new_url)
    assert rows(new) == rows(old)
    assert any(row["successor_id"] for row in rows(new)["manifests"])

    # Numbers that the database gives go on behind those that were copied.
    with new.write(durable=True) as tx:
        other = sources.add_source(tx, "file:///other")
        subscriptions.register(tx, other, {"crm": None}, start_from="beginning", now=NOW)
        planning.plan(
            tx,
            source_id=other,
            url="file:///other",
            files=[records.DatedFile(file("2026/11/24/a"), DAY + timedelta(days=1))],
            subscriptions=subscriptions.active(tx, other),
            limits=records.PlanLimits(10, 1_000, 100, 1 << 20),
            run=Run("run-3", NOW),
        )
    assert other == 2

    again = copied(tmp_path / "old.db", new_url, tmp_path)
    assert again.returncode == 1
    assert "the new ledger is not empty" in again.stderr
    old.close()
    new.close()
