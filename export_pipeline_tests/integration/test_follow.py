"""`export-pipeline follow`: one process that looks, delivers, and ends on a signal."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from export_pipeline_tests.integration.project import Project

_MOST_SECONDS = 240
_FOLLOW = (sys.executable, "-m", "export_pipeline.cli", "follow", "--every", "0.2")


class Following:
    """The command, and what it has printed."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._log = project.root / "follow.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                # As a script has it that starts a program with &: SIGINT is ignored.
                ["sh", "-c", 'trap \'\' INT; exec "$0" "$@"', *_FOLLOW],
                cwd=project.root,
                env=project.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = monotonic() + _MOST_SECONDS
        while not condition():
            assert self.process.poll() is None, self.printed
            assert monotonic() < end, self.printed
            sleep(0.1)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=_MOST_SECONDS)


@pytest.fixture
def following(project: Project) -> Iterator[Following]:
    one = Following(project)
    yield one
    if one.process.poll() is None:
        one.process.kill()
        one.process.wait()


def test_it_delivers_what_comes_until_it_is_ended(project: Project, following: Following) -> None:
    """Files that come one after the other are delivered, each run is Dagster's; a source that cannot be listed for a
    while is said once and does not end it; SIGTERM does, with 0.
    """
    sent = project.put_days("22", files=1)
    following.wait_for(lambda: len(project.copied()) == len(sent))
    sent += project.put_days("23", files=1)
    following.wait_for(lambda: len(project.copied()) == len(sent))
    hidden = project.bucket.with_name("hidden")
    project.bucket.rename(hidden)
    following.wait_for(lambda: "checking for new files failed; retrying: " in following.printed)
    hidden.rename(project.bucket)
    sent += project.put_days("24", files=1)
    following.wait_for(lambda: len(project.copied()) == len(sent))
    with DagsterInstance.from_config(str(project.home)) as instance:
        following.wait_for(lambda: {run.status for run in instance.get_runs()} == {DagsterRunStatus.SUCCESS})
        assert {run.job_name for run in instance.get_runs()} == {"export_job"}
    assert following.end() == 0, following.printed
    assert "a new file, 2026/11/23/00/000.gz" in following.printed
    assert following.printed.count("checking for new files failed") == 1
    assert sorted(project.copied()) == sorted(sent)
    assert project.imbalances() == []
