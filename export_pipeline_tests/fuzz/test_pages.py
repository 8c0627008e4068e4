"""A short run of the fuzzer over pages of listings; a long one is started by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from export_pipeline_tests.fuzz.pages import check_page
from export_pipeline_tests.fuzz.test_fuzz import ATHERIS_IS_MISSING
from export_pipeline_tests.source.test_s3_page import entry, page

SEEDS = [
    page(entry("2026/11/28/09/a.gz", etag="&#34;d41d8cd98f00b204e9800998ecf8427e&#34;"), entry("b/", size=0)),
    page(entry("a%2Bb", etag='W/"ABC"'), encoding="url", space=""),
    page(entry("a&#x1;b", extra="<Owner><ID>x</ID></Owner>")).replace(
        b"2026-11-23T12:00:00.000Z", b"2026-11-23T12:00Z"
    ),
    page("<!-- <Contents> -->", entry("<![CDATA[a<b]]>")).replace(b"<Contents", b"<s:Contents"),
]


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_the_promises_hold_for_the_seeds(number: int) -> None:
    """Each seed, whole and cut anywhere, keeps the promises."""
    for length in range(len(SEEDS[number]) + 1):
        check_page(SEEDS[number][:length])


@pytest.mark.thorough
@pytest.mark.skipif(ATHERIS_IS_MISSING, reason="atheris has no wheel for this Python")
def test_the_promises_hold_for_what_a_fuzzer_finds(tmp_path: Path) -> None:
    """Some thousand coverage-guided inputs, the same for the same code, break nothing."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    for n, seed in enumerate(SEEDS):
        (folder / str(n)).write_bytes(seed)
    command = [sys.executable, "-m", "export_pipeline_tests.fuzz.pages", "-seed=1", "-runs=4000", "-max_len=1024"]
    done = subprocess.run(
        [*command, "-rss_limit_mb=0", f"-artifact_prefix={tmp_path}/", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Done " in done.stderr
