"""The daemon, its code server and its run workers, each killed under the schedule, and the code server restarted; and
two daemons at once.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from export_pipeline_tests.chaos.account import FAILED, THROUGH, Account
from export_pipeline_tests.chaos.site import HONOURING, Site
from export_pipeline_tests.integration.dagster_dev import WORKSPACE
from export_pipeline_tests.integration.project import DAGSTER_YAML
from export_pipeline_tests.servers.programs import stop

# By their command lines: the code server spawns the run's worker by multiprocessing.
VICTIMS = {"the run worker": "spawn_main", "the code server": " grpc ", "the daemon": ""}
# A restart asks a process to end. Whoever supervises it starts it anew: for the code server that is the daemon.
KILLS = [*((victim, signal.SIGKILL) for victim in VICTIMS), ("the code server", signal.SIGTERM)]
TWO_SCHEDULERS = "two schedulers at once"
# What a daemon writes when it is about to start a run, or to find that it is not due.
_TICK = "Evaluating schedule `export_schedule`"
_PATIENCE_SECONDS = 240


class Daemon:
    """``dagster-daemon`` of one site, which ticks every minute."""

    def __init__(self, site: Site) -> None:
        self.site = site
        (site.root / "workspace.yaml").write_text(WORKSPACE)
        # Every five seconds, where production takes sixty: chaos is in a hurry.
        monitoring = {"run_monitoring": {"enabled": True, "poll_interval_seconds": 5}}
        (site.home / "dagster.yaml").write_text(yaml.safe_dump({**DAGSTER_YAML, **monitoring}))
        self.process = self._start("daemon.log")
        self.twins: list[subprocess.Popen[bytes]] = []

    def start_twin(self) -> Callable[[], bool]:
        """A second daemon of the same instance, as after a careless move; what is returned says if it has ticked."""
        self.twins.append(self._start("twin.log"))
        return lambda: _TICK in (self.site.root / "twin.log").read_text()

    def _start(self, log_name: str) -> "subprocess.Popen[bytes]":
        with (self.site.root / log_name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"],
                cwd=self.site.root,
                env=self.site.environment(),
                stdout=log,
                stderr=log,
            )

    def kill(self, victim: str, how: signal.Signals) -> bool:
        """Send *victim* a signal; False where there is none. The daemon is started anew, as a supervisor does it."""
        if victim == "the daemon":
            self.process.kill()
            self.process.wait()
            self.process = self._start("daemon.log")
            return True
        found = self.children(VICTIMS[victim])
        for process in found:
            os.kill(process, how)
        return bool(found)

    def children(self, mark: str) -> list[int]:
        """Processes of this site whose command line holds *mark*."""
        home = f"DAGSTER_HOME={self.site.home}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                if mark.encode() in command and home in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended meanwhile
        return found

    def stop(self) -> None:
        """End the daemon, its twin, and all that they started."""
        stop([self.process, *self.twins])
        for mark in filter(None, VICTIMS.values()):
            for process in self.children(mark):
                os.kill(process, signal.SIGKILL)


def episode(site: Site, account: Account, *, put_files: Callable[[], None]) -> int:
    """Signal each victim during a scheduled run; the schedule alone must then deliver all. Returns how many died.

    In the end two daemons tick at once, and must deliver all as well.
    """

    def must_deliver(event: str, after: str) -> None:
        delivered = _wait(lambda: not site.expected - site.honouring.events(HONOURING))
        account.note([event], THROUGH if delivered else FAILED, 0)
        if not delivered:
            account.broken.append(
                f"{site.root.name}: {_PATIENCE_SECONDS} s after {after} the schedule has not delivered"
            )

    kills = 0
    daemon = Daemon(site)
    try:
        for victim, how in KILLS:
            put_files()
            site.store.script += ["slow"] * 10
            if not _wait(lambda: daemon.children(VICTIMS["the run worker"])):
                account.broken.append(f"{site.root.name}: no scheduled run began before {victim} was to be killed")
                return kills
            time.sleep(1)
            kills += daemon.kill(victim, how)
            put_files()
            must_deliver(f"{how.name} of {victim}, under the schedule", f"{how.name} of {victim}")
        has_ticked = daemon.start_twin()
        for _ in range(2):
            put_files()
            if not _wait(has_ticked):
                account.broken.append(f"{site.root.name}: the second daemon did not tick")
                return kills
            must_deliver(TWO_SCHEDULERS, "a second daemon began")
    finally:
        daemon.stop()
        site.store.calm()
    return kills


def _wait(check: Callable[[], object]) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.3)
    return False
