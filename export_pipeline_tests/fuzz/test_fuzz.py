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
    b'\x1e{"a":1}\n\x1e{"b":[{"c":1},\n{"d":2}]\n{"e":3},\n[1,{"f":2}]\n],{"g":1}\n',
    b'{{{{{"a":{"a":["[{",":[{"]}\nx\n\ny\n[{"a":1}]\n {"b":2}z{"c":3}\n,{"d":4}',
    '[{"ü":"ä"},\n{"b":2}]'.encode("utf-16"),
]


def seeds() -> list[bytes]:
    """Inputs to begin with: text as it is, and one in every compression."""
    plain = [bytes([200, 200, 3, 4 * n, 0]) + seed for n, seed in enumerate(SEEDS)]
    packed = [bytes([200, 200, 99, 1, 0]) + pack(SEEDS[0]) for pack in PACKERS.values()]
    return plain + packed + [bytes([200, 200, 9, 2, n]) + SEEDS[0] for n in range(len(PACKERS))]


@pytest.mark.parametrize("number", range(len(SEEDS) + 2 * len(PACKERS)))
def test_the_promises_hold_for_the_seeds(number: int) -> None:
    """Each seed, whole and cut anywhere, keeps the promises."""
    seed = seeds()[number]
    for length in range(0, len(seed) + 1, 1 + len(seed) // 150):
        check_one(seed[:length])


@pytest.mark.thorough
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
