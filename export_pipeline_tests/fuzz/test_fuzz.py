"""A short run of the fuzzer; a long one is started by hand."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from export_pipeline_tests.fuzz.target import check_one
from export_pipeline_tests.source.packing import PACKERS

ATHERIS_IS_MISSING = importlib.util.find_spec("atheris") is None
SEEDS = [
    b'{"a":1}\n{"b":[1,{"c":"}{"}]}\r\n',
    b'{"a":"\\ud800"}{"b":1e999}garbage{"c":{"d":tru}}[{"e":1},{f},2]',
    b'\xef\xbb\xbf[\n{"a": "\xc3\xbc"},\n{"b": "cut\n]\n',
]


def seeds() -> list[bytes]:
    """Inputs to begin with: text as it is, and one in every compression."""
    plain = [bytes([200, 200, 3, 0]) + seed for seed in SEEDS]
    return plain + [bytes([200, 200, 99, 1]) + pack(SEEDS[0]) for pack in PACKERS.values()]


@pytest.mark.parametrize("number", range(len(SEEDS) + len(PACKERS)))
def test_the_promises_hold_for_the_seeds(number: int) -> None:
    """Each seed, whole and cut anywhere, keeps the promises."""
    seed = seeds()[number]
    for length in range(len(seed) + 1):
        check_one(seed[:length])


@pytest.mark.skipif(ATHERIS_IS_MISSING, reason="atheris has no wheel for this Python")
def test_the_promises_hold_for_what_a_fuzzer_finds(tmp_path: Path) -> None:
    """Some thousand coverage-guided inputs, the same for the same code, break nothing."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    for n, seed in enumerate(seeds()):
        (folder / str(n)).write_bytes(seed)
    command = [
        sys.executable,
        "-m",
        "export_pipeline_tests.fuzz",
        "-seed=1",
        "-runs=6000",
        "-max_len=1024",
        "-rss_limit_mb=0",
    ]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # What was raised stands in one, and the input that raised it in the other.
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Done " in done.stderr
