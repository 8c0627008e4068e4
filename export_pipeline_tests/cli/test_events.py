"""``export-pipeline events``: one day's events, pulled from the source."""

import csv
import gzip
import json
import stat

import pyarrow.parquet
import pytest

from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.test_s3 import in_s3
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server


def test_all_events_of_the_day_and_no_others(project: Project, cli: CommandLine) -> None:
    """A day's events come as NDJSON, byte for byte and in key order; nothing is delivered, planned or quarantined."""
    project.put_days("22")
    lines = project.put_days("23")
    project.put_bytes("2026/11/23/01/joined", b'{"a":1}{"b":"\xc3\xa4"}', compress=False)
    project.put("2026/11/23/zzz/bad", [b"{broken", b'{"c":3}'], compress=False)
    done = cli("events", "2026-11-23")
    assert done.code == 0
    assert done.out.encode().split(b"\n")[:-1] == [*lines, b'{"a":1}', '{"b":"ä"}'.encode(), b'{"c":3}']
    assert done.err.startswith("9 events of 2026-11-23 in 4 files (")
    assert "; 1 malformed record left out" in done.err
    assert {path.name for path in project.root.iterdir()} == {"bucket", "home", "test.yaml"}


def test_a_day_without_files(project: Project, cli: CommandLine) -> None:
    """A day without files has no events, which is not an error."""
    done = cli("events", "2026-11-05")
    assert (done.code, done.out, done.err) == (0, "", "0 events of 2026-11-05 in 0 files (0 bytes)\n")


def test_the_format_is_told_by_the_name(project: Project, cli: CommandLine) -> None:
    """Written to a file, the format is that of its name, unless --format says otherwise; others may read the file."""
    lines = project.put_days("23")
    for name in ("day.csv", "day.parquet", "day.ndjson", "day.txt"):
        assert cli("events", "2026-11-23", "--output", str(project.root / name)).code == 0
    assert (project.root / "day.ndjson").read_bytes().split(b"\n")[:-1] == lines
    assert (project.root / "day.txt").read_bytes() == (project.root / "day.ndjson").read_bytes()
    with (project.root / "day.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{name: str(value) for name, value in json.loads(line).items()} for line in lines]
    table = pyarrow.parquet.read_table(project.root / "day.parquet")
    assert table.to_pylist() == [json.loads(line) for line in lines]
    assert stat.S_IMODE((project.root / "day.csv").stat().st_mode) & 0o444 == 0o444
    assert cli("events", "2026-11-23", "-o", str(project.root / "day.csv"), "--format", "ndjson").code == 0
    assert (project.root / "day.csv").read_bytes() == (project.root / "day.ndjson").read_bytes()


@pytest.mark.parametrize("name", ["day.ndjson", "day.csv", "day.parquet"])
def test_half_a_file_is_none(project: Project, cli: CommandLine, name: str) -> None:
    """Where a file cannot be read, the output is not there, or stays what it was, and the exit code is 1."""
    project.put_days("23")
    data = gzip.compress(b'{"a":1}\n' * 1000)
    project.put_bytes("2026/11/23/zzz.gz", data[: len(data) // 2], compress=False)
    output = project.root / "out" / name
    output.parent.mkdir()
    assert cli("events", "2026-11-23", "-o", str(output)).code == 1
    assert list(output.parent.iterdir()) == []
    output.write_text("as it was")
    done = cli("events", "2026-11-23", "-o", str(output))
    assert done.code == 1
    assert done.err.startswith("error: 2026/11/23/zzz.gz: ")
    assert [path.read_text() for path in output.parent.iterdir()] == ["as it was"]


def test_what_cannot_be_asked_for(project: Project, cli: CommandLine) -> None:
    """A date that is none, a folder that is not there and an unknown format are wrong usage."""
    for wrong in (["2026-13-01"], ["2026-11-23", "-o", str(project.root / "no" / "where")], ["x", "--format", "xml"]):
        assert cli("events", *wrong).code == 2
    assert "allowed: a date, YYYY-MM-DD" in cli("events", "yesterday").err


def test_the_deployments_limits_hold(project: Project, cli: CommandLine) -> None:
    """What the export would refuse, such as an event that is too long, is left out here too."""
    project.config["limits"] = {"max_event_bytes": 20}
    project.put("2026/11/23/a.gz", [{"a": 1}, {"b": "x" * 100}])
    done = cli("events", "2026-11-23")
    assert done.out == '{"a": 1}\n'
    assert "1 malformed record left out" in done.err


def test_layouts_other_than_days(project: Project, cli: CommandLine) -> None:
    """Whatever the layout, a day's files are found: by hour, or with text before the date."""
    project.config["source"]["layout"] = "dt=%Y-%m-%d/hour=%H/"
    project.put("dt=2026-11-23/hour=00/a.gz", [{"n": 1}])
    project.put("dt=2026-11-23/hour=23/a.gz", [{"n": 2}])
    project.put("dt=2026-11-24/hour=00/a.gz", [{"n": 3}])
    assert cli("events", "2026-11-23").out == '{"n": 1}\n{"n": 2}\n'


def test_from_a_bucket(project: Project, cli: CommandLine, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day in S3 is pulled with the source's own login, whatever the subscribers need."""
    monkeypatch.setenv("TEST_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEST_SECRET_KEY", SECRET_KEY)
    bucket = moto.new_bucket()
    moto.put(bucket, {f"raw/2026/11/23/{n:02}.gz": gzip.compress(b'{"n":%d}' % n) for n in range(20)})
    project.config["source"] = in_s3(moto, f"s3://{bucket}/raw/")
    project.config["subscribers"] = {"crm": {"type": "segment", "write_key": {"env": "NOT_SET_ANYWHERE"}}}
    done = cli("events", "2026-11-23")
    assert done.code == 0
    assert done.out == "".join(f'{{"n":{n}}}\n' for n in range(20))
