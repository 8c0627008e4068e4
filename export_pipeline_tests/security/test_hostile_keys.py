"""Keys as an attacker would choose them, in a real S3: no file leaves its folder, and no line of a log is forged."""

import gzip
import json
import os
import re

import pytest

from export_pipeline.printable import printable
from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.security.hostile import FORGED, HOSTILE
from export_pipeline_tests.security.shown import CONTROLS, DAY, below, texts
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server


@pytest.fixture
def attacked(project: Project, ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A bucket in which every hostile key has an event and a malformed line, and a truncated file."""
    monkeypatch.setenv("TEST_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEST_SECRET_KEY", SECRET_KEY)
    bucket = ceph.new_bucket()
    sound = {f"{DAY}{key}": json.dumps({"n": n}).encode() + b"\n{broken\n" for n, key in enumerate(HOSTILE)}
    assert max(len(key.encode()) for key in sound) <= 1_024
    cut = {f"{DAY}{key}.gz": gzip.compress(b'{"a":1}\n')[:-3] for key in HOSTILE}
    ceph.put(bucket, {**sound, **cut, FORGED: b"in no layout"})
    project.config["source"] = {
        "url": f"s3://{bucket}",
        "endpoint_url": ceph.url,
        "region_name": "us-east-1",
        "aws_access_key_id": {"env": "TEST_ACCESS_KEY"},
        "aws_secret_access_key": {"env": "TEST_SECRET_KEY"},
        # Some of the keys lie in hidden folders.
        "ignore": [],
    }
    project.config["max_attempts"] = 1
    return project


@pytest.mark.thorough
def test_no_file_leaves_its_folder_and_no_line_is_forged(attacked: Project) -> None:
    """Staging, quarantine and delivered files have names of our own; what was told of keys is one line, and whole."""
    before = set(os.listdir("/tmp")) | set(os.listdir(attacked.root.parent))
    run = attacked.run()
    assert sorted(attacked.copied()) == sorted(json.dumps({"n": n}).encode() for n in range(len(HOSTILE)))
    assert {record["key"] for record in attacked.quarantined()} == {
        f"{DAY}{key}{end}" for key in HOSTILE for end in ("", ".gz")
    }
    plain = re.compile(
        r"(test\.yaml|ledger\.db(-wal|-shm|\.claims(/\w+\.lock)?)?|staging|quarantine(/2026-11-23(/[\w.-]+)?)?|"
        r"copy(/2026(/11(/23(/[0-9a-z-]+\.ndjson)?)?)?)?)"
    )
    assert [path for path in below(attacked.root) if not plain.fullmatch(path)] == []
    assert not {name for name in os.listdir(attacked.root.parent) if "escaped" in name}
    assert "escaped" not in set(os.listdir("/tmp")) - before
    shown = texts(run)
    assert any(printable(FORGED) in text for text in shown), "it was told of, so its form was put to the test"
    assert [text for text in shown if CONTROLS.search(text)] == []
    assert not any(line.startswith("2026-11-23 00:00:00 +0000") for text in shown for line in text.splitlines())


@pytest.mark.thorough
def test_the_terminal_obeys_none(attacked: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line prints of such files holds no escape sequence, and no line that a key made."""
    attacked.run()
    cli = CommandLine(attacked, monkeypatch)
    for arguments in (("quarantine", "list"), ("status",), ("check",), *(("why", DAY + key) for key in HOSTILE)):
        done = cli(*arguments)
        assert done.code in (0, 1), done.err
        assert CONTROLS.search(done.out + done.err) is None
        assert not any(line.strip().startswith("2026-11-23 00:00:00 +0000") for line in done.out.splitlines())
    listed = cli("quarantine", "list", "--json").json()
    assert listed
    for one in listed[:2]:
        assert CONTROLS.search(cli("quarantine", "show", one["id"]).out) is None


def test_a_local_source_with_such_names(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in a folder may have such names, too: their events arrive, and their names are shown on one line."""
    names = [name for name in HOSTILE if "/" not in name and len(name.encode()) < 200 and not name.startswith(".")]
    for n, name in enumerate(names):
        project.put(DAY + name, [{"n": n}], compress=False)
    project.put_bytes(DAY + FORGED + ".gz", gzip.compress(b"{}")[:-3], compress=False)
    run = project.run()
    assert len(project.copied()) == len(names)
    shown = texts(run)
    assert any(printable(FORGED) in text for text in shown), "it was told of, so its form was put to the test"
    assert [text for text in shown if CONTROLS.search(text)] == []
    cli = CommandLine(project, monkeypatch)
    for arguments in (("check",), ("status",), ("why", DAY + FORGED), ("why", DAY + HOSTILE[1])):
        done = cli(*arguments)
        assert CONTROLS.search(done.out + done.err) is None
        assert not any(line.strip().startswith("2026-11-23 00:00:00 +0000") for line in done.out.splitlines())
