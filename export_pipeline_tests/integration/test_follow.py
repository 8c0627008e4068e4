"""`export-pipeline follow`: one process that looks, delivers, and ends on a signal."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from time import monotonic, sleep

from dagster import DagsterInstance, DagsterRunStatus

from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.http import Reply, Request, Server

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


@contextmanager
def started(project: Project) -> Iterator[Following]:
    """The command, killed where it does not end."""
    one = Following(project)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_it_delivers_what_comes_until_it_is_ended(project: Project) -> None:
    """Files that come one after the other are delivered, each run is Dagster's; another command that looks at the
    ledger does no harm; a source that cannot be listed for a while is said once and does not end it; SIGTERM does,
    with 0.
    """
    sent = project.put_days("22", files=1)
    with started(project) as following:
        following.wait_for(lambda: len(project.copied()) == len(sent))
        status = [*_FOLLOW[:3], "status"]
        subprocess.run(status, cwd=project.root, env=project.environment(), check=True, capture_output=True)
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


class Refusing(Server):
    """Answers after two seconds that the key is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = Event()

    def answer(self, request: Request) -> Reply:
        self.was_asked.set()
        sleep(2)
        return Reply(401)


def test_it_ends_though_the_call_that_it_waits_for_fails(project: Project) -> None:
    """A signal that comes while a request is under way ends it, also if the answer to that request is a refusal."""
    with Refusing() as server:
        project.config["subscribers"] = {"hook": {"type": "http", "url": server.url, "retry_for_seconds": 0}}
        project.put_days("22", files=1)
        with started(project) as following:
            following.wait_for(server.was_asked.is_set)
            assert following.end() == 0, following.printed
            assert following.printed.count("401") == 1, following.printed
            assert "the run was terminated meanwhile" in following.printed
