"""The documentation's example subscriber, as a user would use it."""

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "your_own_subscriber.md"


def blocks() -> dict[str, str]:
    """File name, from the block's first line → text of each Python block."""
    found = re.findall(r"```python\n# (\S+)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return dict(found)


def test_the_documented_subscriber_passes_the_contract(tmp_path: Path) -> None:
    """The class and the test of the documentation, copied as they are, pass the whole suite."""
    for name, text in blocks().items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests/test_spool.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 8, run.stdout  # type: ignore[index]


def test_it_has_15_lines() -> None:
    """Imports and documentation included, it takes at most fifteen lines that are not blank."""
    lines = [line for line in blocks()["my_package/spool.py"].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_documented_type_is_found(tmp_path: Path) -> None:
    """``type: "my_package.spool:Spool"`` finds the class in the working folder."""
    script = "from export_pipeline.subscribers.registry import resolve; print(resolve('my_package.spool:Spool'))"
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "spool.py").write_text(blocks()["my_package/spool.py"])
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "<class 'my_package.spool.Spool'>", run.stderr
