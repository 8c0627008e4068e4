"""``export-pipeline metrics``, and metrics that runs push."""

import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from export_pipeline.cli import runs
from export_pipeline.orchestration import metrics
from export_pipeline_tests.cli.conftest import SCRIPT, CommandLine
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.servers.otlp import OtlpReceiver

pytestmark = pytest.mark.usefixtures("one_event_log")

CRM = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm", "retry_for_seconds": 0}
PREFIX = "export_pipeline_"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(metrics, "_TOLD", {})


@pytest.fixture
def half_delivered(project: Project, received: Path) -> Project:
    """copy has two files, crm, which fails, has none."""
    project.config["subscribers"]["crm"] = CRM
    (received / "crm.fails").touch()
    project.put_days("23")
    project.run()
    return project


def values(text: str, name: str) -> dict[str, float]:
    """Subscriber → value of a metric."""
    return {
        sample.labels.get("subscriber", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{PREFIX}{name}"
    }


def test_one_subscriber_has_everything_and_another_fails(
    half_delivered: Project, cli: CommandLine, tmp_path: Path
) -> None:
    """Lag, backlog and failures are those of the one that fails; events and bytes those of the other. --file writes
    what would be printed.
    """
    done = cli("metrics")
    assert (done.code, done.err) == (0, "")
    stored = sum(path.stat().st_size for path in half_delivered.bucket.rglob("*.gz"))
    assert values(done.out, "owed_files") == {"copy": 0, "crm": 2}
    assert values(done.out, "owed_bytes") == {"copy": 0, "crm": stored}
    assert values(done.out, "failing") == {"copy": 0, "crm": 1}
    assert values(done.out, "delivered_events_total") == {"copy": 6, "crm": 0}
    assert values(done.out, "failed_attempts_total") == {"copy": 0, "crm": 1}
    assert values(done.out, "calls_total") == {"copy": 1, "crm": 1}
    lag = values(done.out, "lag_seconds")
    assert lag["copy"] == 0
    assert 0 < lag["crm"] < 300
    path = tmp_path / "export.prom"
    done = cli("metrics", "--file", str(path))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert values(path.read_text(), "owed_files") == {"copy": 0, "crm": 2}


def test_a_file_that_cannot_be_written(project: Project, cli: CommandLine, tmp_path: Path) -> None:
    """A folder that is missing is an error with its name, and --file with --port is wrong usage."""
    path = tmp_path / "missing" / "export.prom"
    done = cli("metrics", "--file", str(path))
    assert done.code == 1
    assert f"{path} could not be written: No such file or directory" in done.err
    done = cli("metrics", "--file", str(path), "--port", "0")
    assert (done.code, "--file and --port: choose one of them" in done.err) == (2, True)


def test_before_the_first_run(project: Project, cli: CommandLine) -> None:
    """Without a ledger there are no figures, and none is created by looking."""
    done = cli("metrics")
    assert (done.code, values(done.out, "enabled")) == (0, {"": 1})
    assert values(done.out, "lag_seconds") == {}
    assert not (project.root / "ledger.db").exists()


@contextmanager
def serving(project: Project) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """The command with --port, and the address that it says."""
    process = subprocess.Popen(
        [SCRIPT, "metrics", "--port", "0"],
        cwd=project.root,
        env=project.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        yield process, process.stderr.readline().rpartition(" ")[2].strip()
    finally:
        process.kill()
        process.communicate()


def test_a_server_until_it_is_ended(half_delivered: Project) -> None:
    """A ledger that is broken is a 503 with a line in the log, and one that is back is read; SIGTERM ends it with 0."""
    ledger = half_delivered.root / "ledger.db"
    whole = ledger.rename(ledger.with_suffix(".whole"))
    ledger.write_bytes(b"no database" * 1_000)
    with serving(half_delivered) as (process, url):
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            urllib.request.urlopen(url, timeout=30)
        caught.value.close()
        whole.rename(ledger)
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert values(answer.read().decode(), "owed_files") == {"copy": 0, "crm": 2}
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    failed, stopped = said.splitlines()
    assert failed.endswith("a scrape was answered with 503: the ledger's database failed: file is not a database")
    assert (process.returncode, stopped.endswith(" stopped")) == (0, True)


def test_a_collector_that_is_down_is_one_warning(
    project: Project, cli: CommandLine, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs succeed while the collector refuses, say so once, and push again as soon as it accepts."""
    monkeypatch.setenv("OTLP_KEY", "planted-key")
    project.config["metrics"] = {"otlp": {"endpoint": receiver.url, "headers": {"x-key": {"env": "OTLP_KEY"}}}}
    project.put_days("23")
    receiver.standing = Reply(500, b"planted-key")
    first, second = cli("run"), cli("run")
    assert (first.code, second.code) == (0, 0)
    assert "metrics were not pushed (metrics.otlp): 500 Internal Server Error; deliveries are not affected" in first.err
    assert "metrics were not pushed" not in second.err
    assert "planted-key" not in first.err
    done = cli("check")
    assert (done.code, done.err.strip()) == (1, "failed: metrics")
    receiver.standing = None
    assert cli("run").code == 0
    assert receiver.value(f"{PREFIX}last_run_success") == 1
    assert metrics._TOLD == {}
    assert "the collector accepted metrics" in cli("check").out


def test_follow_pushes_at_intervals(project: Project, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between runs, too, a process that follows the source pushes metrics."""
    from export_pipeline.cli import follow
    from export_pipeline.cli.session import Session

    monkeypatch.setattr(follow, "_PUSH_SECONDS", 0.05)
    project.config["metrics"] = {"otlp": {"endpoint": receiver.url}}
    for name, value in project.environment().items():
        monkeypatch.setenv(name, value)
    session = Session(str(project.deployment_path))
    with runs.runner(session, session.deployment()) as runner, follow._pushing_metrics(runner):
        for _ in range(200):
            if len(receiver.received) >= 2:
                break
            receiver.wait(0.05)
    assert receiver.value(f"{PREFIX}enabled") == 1
