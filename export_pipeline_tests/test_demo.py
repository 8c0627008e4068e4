"""`make demo`: what a user sees who tries the export for the first time, and the second."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export_pipeline_tests.documents.blocks import all_blocks

ROOT = Path(__file__).parents[1]


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo in *folder*."""
    environ = {**os.environ, "DAGSTER_HOME": str(folder), "EXPORT_DEPLOYMENT": "must-not-matter"}
    command = [sys.executable, "-m", "export_pipeline.demo"]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)


def lines_delivered(folder: Path) -> int:
    """Events in the local deployment's archive."""
    return sum(path.read_bytes().count(b"\n") for path in (folder / ".demo" / "delivered").rglob("*.ndjson"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder as a fresh clone has it."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    shutil.copy(ROOT / "workspace.yaml", tmp_path)
    shutil.copytree(ROOT / "deployments", tmp_path / "deployments")
    return tmp_path


def test_the_demo_twice(checkout: Path) -> None:
    """First all sample files are exported, and the malformed line is quarantined; the second time only what is new.

    What pages show as the output of `make demo` is what it prints, but for numbers that differ each time.
    """
    first = demo(checkout)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "created 36 files with 3,000 events, one of them with a malformed line" in first.stdout
    assert re.search(r"^Found +36 new files ", first.stdout, re.MULTILINE)
    assert re.search(
        r"^Delivered +3,000 events to archive in \d+ batches → \.demo/delivered$", first.stdout, re.MULTILINE
    )
    assert re.search(r"^Quarantined +1 record, kept in \.dagster/quarantine$", first.stdout, re.MULTILINE)
    assert re.search(r"sample-events-1-\S+\.gz, 69 bytes at offset [\d,]+: ", first.stdout)
    assert "3,001 records read = 3,000 events in batches + 1 quarantined" in first.stdout
    assert re.search(r"^Next +make dev ", first.stdout, re.MULTILINE)
    assert lines_delivered(checkout) == 3_000
    assert not_printed(first.stdout) == []

    second = demo(checkout)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "36 earlier files, and 3 new files with 240 events" in second.stdout
    assert re.search(r"^Found +3 new files ", second.stdout, re.MULTILINE)
    assert re.search(r"^Quarantined +nothing$", second.stdout, re.MULTILINE)
    assert lines_delivered(checkout) == 3_240
    assert {path.name for path in checkout.iterdir()} == {
        ".dagster",
        ".demo",
        "dagster.yaml",
        "deployments",
        "workspace.yaml",
    }


def not_printed(output: str) -> list[str]:
    """The lines that pages show as the output of `make demo`, and that are not in *output*."""
    shown = [block for block in all_blocks(marked=True) if block.mark == "output of" and block.reason == "make demo"]
    assert shown
    printed = set(map(without_numbers, output.splitlines()))
    return [line for block in shown for line in block.text.splitlines() if without_numbers(line) not in printed]


def without_numbers(line: str) -> str:
    return re.sub(r"\d[\d.,]*", "N", line)


def test_the_demo_fills_no_folder_but_its_own(checkout: Path) -> None:
    """Where the local deployment reads from elsewhere, the demo says so and writes nothing."""
    text = (checkout / "deployments" / "local.yaml").read_text()
    (checkout / "deployments" / "local.yaml").write_text(text.replace(".demo/bucket", "my-data"))
    done = demo(checkout)
    assert done.returncode == 1
    assert "source.url: found file://" in done.stderr
    assert "allowed for the demo: a folder below .demo/" in done.stderr
    assert not (checkout / "my-data").exists()


def test_a_demo_that_fails_shows_the_end_of_its_log(checkout: Path) -> None:
    """When the export fails, the demo's exit code tells, and its log is shown, which says why."""
    with (checkout / "deployments" / "local.yaml").open("a") as file:
        file.write("  failing: {type: python, function: 'export_pipeline_tests.test_demo:refuse'}\n")
    done = demo(checkout)
    assert done.returncode != 0
    assert "FAILED" in done.stdout
    assert "nobody is at home" in done.stdout


def refuse(ndjson: str, batch: object) -> None:
    """A destination that takes nothing."""
    from export_pipeline.errors import Blocked

    raise Blocked("nobody is at home")
