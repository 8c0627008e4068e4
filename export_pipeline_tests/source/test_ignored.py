"""Names that are left alone: what tools write while they copy, and nothing that holds events."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest

from export_pipeline.errors import ConfigurationError
from export_pipeline.source.file import SourceFile
from export_pipeline.source.ignored import SHIPPED, SHOWN, Ignored, LeftOut
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import open_source

NOON = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
DAY = "2026/11/28/09/"
PAGE = Path(__file__).parents[2] / "docs" / "sources.md"

TEMPORARY = {
    "aws s3 sync": ["x.gz.6eF5b4dA", "part-0.parquet.DEADbeef", "x.json.a1B2c3D4"],
    "aws s3 sync of Firehose's": ["s-1-2026-11-28-09-00-00-1a2b3c4d-0000-4000-8000-000000000000.6eF5b4dA"],
    "gsutil, gcloud": ["x.gz_.gstmp", "x.gz_.gztmp"],
    "mc": ["x.gz.part.minio"],
    "rclone": ["x.gz.1a2b3c4d.partial", "x.gz.partial"],
    "rsync": [".x.gz.AbCdEf", ".~tmp~/x.gz", ".rsync-partial/x.gz"],
    "browsers, lftp, WinSCP": ["x.gz.part", "x.gz.tmp", "x.gz.temp", "x.gz.crdownload", "x.gz.filepart", "x.gz.aria2"],
    "hadoop fs": ["x.gz._COPYING_", ".x.gz.crc", "x.crc", "year_$folder$", "_SUCCESS", "_temporary/0/x.gz"],
    "Spark": ["_spark_metadata/0", ".spark-staging-1/x.gz", "_started_123", "_committed_123", "_temporary/0/task/x"],
    "Hive, S3A": [".hive-staging_hive_2026/x.gz", "_tmp.-ext-10000/x.gz", "__magic/job-1/x.gz", "__magic_job-1/x.gz"],
    "Flink, Flume, Kafka Connect": [".part-0.inprogress.1", "part-0.inprogress", "_part-0.in-progress", "+tmp/x.gz"],
    "Delta, Parquet": ["_delta_log/00000000000000000000.json", "_metadata", "_common_metadata"],
    "systems": [".DS_Store", "._x.gz", ".nfs0000001", ".syncthing.x.gz.tmp", ".azDownload-1-x.gz", ".snapshot/x.gz"],
}  # fmt: skip

REAL = [
    "x.gz", "part-00000-1a2b3c4d.snappy.parquet", "a.b.12345678", "x.json.20261128", "x.log.20261128", "x.gz.00000001",
    "host.example.deadbeef", "x.6eF5b4dA", "x.gz.6eF5b4dAA", "x.gz.6eF5b4d", "x.gz.6eF5b4dG", "_events/x.gz", "_x.gz",
    "__x.gz", "x_SUCCESS", "_SUCCESSFUL", "_success.json", "x.tmp.gz", "tmp/x.gz", "part/x.gz", "x.part.gz", "x.parts",
    "temporary/x.gz", "x_temporary/y.gz", "delta_log/x", "x.crc32", "../x.gz", "./x.gz", "..", ".", "a//b", "x$folder$",
    "_metadata.json", "_metadata/x.gz", "crc", "X.TMP", "x.gz.PART", "E1.2026-11-28-09.a1b2c3d4.gz",
    "firehose-1-2026-11-28-09-00-00-1a2b3c4d-0000-4000-8000-000000000000.gz",
    "firehose-1-2026-11-28-09-00-00-1a2b3c4d-0000-4000-8000-000000000000",
    "firehose-1-2026-11-28-09-00-00-1a2b3c4d-0000-4000-8000-000000000000.20261128", "_started_", "magic/x.gz", "tmp",
]  # fmt: skip


@pytest.mark.parametrize("tool", list(TEMPORARY))
def test_what_tools_write_while_they_copy_is_left_alone(tool: str) -> None:
    """Each name, at any depth, is ignored, by a pattern that says so."""
    for name in TEMPORARY[tool]:
        for key in (name, DAY + name):
            assert Ignored().pattern_of(key) in SHIPPED, key


def test_no_real_name_is_hidden() -> None:
    """What only looks like it is read: a date behind a name, a folder with an underscore, other cases and lengths."""
    assert {key: Ignored().pattern_of(key) for name in REAL for key in (name, DAY + name, f"dt=2026-11-28/{name}")} == {
        key: None for name in REAL for key in (name, DAY + name, f"dt=2026-11-28/{name}")
    }


def test_each_shipped_pattern_is_needed() -> None:
    """Without it, some name of a tool would be taken for events, or some real name would not."""
    names = [name for some in TEMPORARY.values() for name in some]
    for pattern in SHIPPED:
        others = Ignored([one for one in SHIPPED if one != pattern])
        if pattern.startswith("!"):
            assert any(others.pattern_of(name) for name in REAL), pattern
        else:
            assert any(Ignored([pattern]).pattern_of(name) for name in names), pattern


def test_the_page_has_every_pattern() -> None:
    """docs/sources.md has one row for each, in their order."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `") and line.split("`")[1] in SHIPPED]
    assert [(row.split("`")[1], row.split(" | ", 1)[1].removesuffix(" |")) for row in rows] == list(SHIPPED.items())


@pytest.mark.parametrize(
    ("patterns", "ignored", "taken"),
    [
        ([], [], [".x", "_SUCCESS", "x.tmp"]),
        (["*.bak"], ["x.bak", "a/b/.bak"], ["x.bak/y", "x.tmp"]),
        (["old/"], ["old/x", "a/old/b/x"], ["old", "a/old", "older/x"]),
        (["raw/*/x*"], ["raw/1/x1"], ["raw/1/2/x1", "a/raw/1/x1", "raw/x1"]),
        (["raw/**/x*"], ["raw/1/2/x1", "raw/x1"], ["a/raw/x1"]),
        (["raw/old/"], ["raw/old/x", "raw/old/a/b"], ["raw/older/x", "a/raw/old/x"]),
        (["/x"], ["x"], ["a/x"]),
        (["x?.{gz,zst}", "!x2.*"], ["x1.gz", "x3.zst"], ["x2.gz", "x.gz", "x12.gz"]),
        (["!x2.gz", "x*"], ["x1.gz", "x2.gz"], ["y"]),
        (["[!0-9]*"], ["a", "x/b"], ["1", "x/9a"]),
        (["a[]]b", "{x", "q}"], [], []),
        (["*"], ["a", "b/c"], []),
        (["a,b", "c|d", "e.f", "g+"], ["a,b", "c|d", "e.f", "g+"], ["a", "b", "c", "d", "exf", "gg"]),
    ],
)  # fmt: skip
def test_patterns_are_globs(patterns: list[str], ignored: Sequence[str], taken: Sequence[str]) -> None:
    """A name, a folder, a whole key; stars, sets, choices and exceptions; in one place and by one rule."""
    if "{x" in patterns:
        with pytest.raises(ConfigurationError, match=r"found '\{x', which is not a valid glob pattern"):
            Ignored(patterns)
        return
    rule = Ignored(patterns)
    assert [key for key in [*ignored, *taken] if rule.pattern_of(key)] == list(ignored)
    files = [SourceFile(key, "e", 1, NOON) for key in [*taken, *ignored]]
    left_out = LeftOut()
    assert [file.key for file in rule.sift(files, left_out)] == list(taken)
    assert left_out.ignored == len(ignored)


@pytest.mark.parametrize("patterns", [[""], ["/"], ["!"], ["a{b"], ["[b-a]"], ["x"] * 1_001])
def test_what_is_no_pattern_is_refused(patterns: list[str]) -> None:
    """The error names what was found and what is allowed, as any of a deployment file."""
    with pytest.raises(ValueError, match="found "):
        SourceSettings(url="file:///x", ignore=patterns)


def test_a_file_is_found_under_its_final_name(tmp_path: Path) -> None:
    """A name that is being written is counted, and once it was renamed it is a file like any other."""
    folder = tmp_path / DAY
    folder.mkdir(parents=True)
    (folder / "x.gz.6eF5b4dA").write_bytes(b"{}")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "y").write_bytes(b"{}")
    source = open_source(SourceSettings(url=tmp_path.as_uri()))
    assert list(source.list_files()) == []
    assert list(source.list_files()) == []
    left_out = source.take_left_out()
    assert left_out.ignored == 2
    assert set(left_out.ignored_keys) == {DAY + "x.gz.6eF5b4dA", DAY + "_temporary/"}
    (folder / "x.gz.6eF5b4dA").rename(folder / "x.gz")
    assert [file.key for file in source.list_files()] == [DAY + "x.gz"]
    everything = open_source(SourceSettings(url=tmp_path.as_uri(), ignore=[]))
    assert [file.key for file in everything.list_files()] == [DAY + "_temporary/y", DAY + "x.gz"]
    assert everything.take_left_out() == LeftOut()


def test_only_the_first_names_are_kept() -> None:
    """A million names cost a count, each of them once, and some are shown."""
    left_out = LeftOut()
    for _ in range(2):
        for n in range(SHOWN + 5):
            left_out.ignore(f"{n}.tmp", "*.tmp")
            left_out.trouble(f"{n}/", "it cannot be entered")
    assert (left_out.ignored, left_out.troubles) == (SHOWN + 5, SHOWN + 5)
    assert (len(left_out.ignored_keys), len(left_out.troubled_keys)) == (SHOWN, SHOWN)
