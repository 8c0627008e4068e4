"""A campaign: a new deployment, a number of runs with a fault each, then calm, then the reckoning."""

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess

from export_pipeline.deployment import load_deployment
from export_pipeline.ledger import owed, sources, subscriptions
from export_pipeline.steps.open import open_workspace
from export_pipeline_tests.chaos.account import FAILED, KILLED, THROUGH, Account, broken_promises
from export_pipeline_tests.chaos.daemon import episode
from export_pipeline_tests.chaos.faults import Fault, Weather, faults_of, run_during
from export_pipeline_tests.chaos.site import Site
from export_pipeline_tests.chaos.worker import FAILED_LOUDLY
from export_pipeline_tests.integration import killer

RANDOM_KILL, TWO_AT_ONCE = "SIGKILL at a random moment", "two runs at once"
JOB_KILL = "SIGKILL of `dagster job execute`"
_CALM_RUNS = 40
_LONGEST_RUN_SECONDS = 120
_FIRST_GUESS_SECONDS = 0.6
_FIRST_GUESS_JOB_SECONDS = 8.0


class Campaign:
    """Drives one site.

    Args:
        seed: decides which faults come when, and every number in them. When a random kill hits is the machine's.
        dagster_every: each so-many-th run is the whole job, by ``dagster job execute``; 0: none.
    """

    def __init__(self, site: Site, account: Account, *, seed: int, dagster_every: int) -> None:
        self.site, self.account = site, account
        self.chance = random.Random(seed)
        self.dagster_every = dagster_every
        self.may_repeat = 0
        self.repeated = 0
        self.typical_seconds = _FIRST_GUESS_SECONDS
        self.job_seconds = _FIRST_GUESS_JOB_SECONDS
        self._plan = self._planned()

    def rounds(self, count: int, *, until: float = float("inf")) -> None:
        """*count* runs, but none begins after the moment *until* of time.monotonic()."""
        for number in range(1, count + 1):
            if time.monotonic() > until:
                return
            self.site.put_files(self.chance.randint(0, 2), self.chance)
            if self.dagster_every and number % self.dagster_every == 0:
                self._dagster_round()
            else:
                self._round(*next(self._plan))

    def daemon_episode(self) -> None:
        """The schedule in a real daemon, of which each process is killed once."""
        self.site.end_abandoned_runs()
        self.may_repeat += episode(self.site, self.account, put_files=lambda: self.site.put_files(3, self.chance))

    def finish(self) -> None:
        """Let all be calm, run until nothing is owed, and reckon."""
        self.site.store.calm()
        for _ in range(_CALM_RUNS):
            process = self.site.start_worker()
            process.join(_LONGEST_RUN_SECONDS)
            if process.exitcode == 0 and not self._owes():
                break
        else:
            self.account.broken.append(
                f"{self.site.root.name}: still owed after {_CALM_RUNS} calm runs: {self._last_log()}"
            )
        broken = broken_promises(self.site)
        self.account.broken += [f"{self.site.root.name}: {sentence}" for sentence in broken]
        self.account.campaigns += 1
        for name, events in self.site.received().items():
            self.account.delivered["guests" if name.startswith("guest") else name] += len(events)

    def _planned(self) -> Iterator[tuple[str, Fault | None]]:
        """Every fault once, and as often none, before one comes again; where each process dies the simulation tries."""
        faults = faults_of(self.site.ledger_url)
        while True:
            names = list(faults) + [""] * len(faults)
            self.chance.shuffle(names)
            for name in names:
                yield name, faults.get(name)

    def _round(self, name: str, fault: Fault | None) -> None:
        weather = fault(self.site, self.chance) if fault else Weather()
        happened = [name] if name else []
        how = self.chance.choice([RANDOM_KILL, RANDOM_KILL, TWO_AT_ONCE, ""])
        if how:
            happened.append(how)
        during = run_during(weather)
        started = time.monotonic()
        process = self.site.start_worker(**weather.order)
        others = [self.site.start_worker()] if how == TWO_AT_ONCE else []
        if how == RANDOM_KILL:
            process.join(self.chance.uniform(0, 1.2 * self.typical_seconds))
            process.kill()
        outcomes = [self._ended(one) for one in (process, *others)]
        if not how:
            self.typical_seconds = 0.7 * self.typical_seconds + 0.3 * min(5.0, time.monotonic() - started)
        self._after(weather, during, happened, outcomes)

    def _ended(self, process: ForkServerProcess) -> str:
        process.join(_LONGEST_RUN_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            self.account.broken.append(f"{self.site.root.name}: a run hung for {_LONGEST_RUN_SECONDS} s")
        return self._outcome(process.exitcode)

    def _outcome(self, code: int | None) -> str:
        found = {0: THROUGH, FAILED_LOUDLY: FAILED, -9: KILLED}.get(code if code is not None else -9)
        if found is None:
            self.account.broken.append(f"{self.site.root.name}: a run ended with exit code {code}")
        return found or FAILED

    def _dagster_round(self) -> None:
        place = self.chance.choice([name for name in killer.PLACES if name not in ("commit", "delete_staged")])
        moment = f"{place}:{self.chance.choice(['before', 'after'])}:{self.chance.randint(1, 2)}"
        by_moment = self.chance.random() < 0.5
        started = time.monotonic()
        process = self.site.start_dagster(kill_at=moment if by_moment else "")
        if not by_moment:
            try:
                process.wait(self.chance.uniform(0.4, 1.1) * self.job_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.wait(_LONGEST_RUN_SECONDS)
        outcome = {0: THROUGH, 1: FAILED, -9: KILLED}.get(code, FAILED)
        if outcome == FAILED and "RUN_START" not in (printed := self.site.dagster_log.read_text()):
            self.account.broken.append(f"{self.site.root.name}: the job did not start: {printed[-1_000:]}")
        if outcome != KILLED:
            self.job_seconds = time.monotonic() - started
        self._after(Weather(), None, [JOB_KILL], [outcome])

    def _after(
        self, weather: Weather, during: threading.Thread | None, happened: list[str], outcomes: list[str]
    ) -> None:
        if during is not None:
            during.join(_LONGEST_RUN_SECONDS)
        if weather.undo is not None:
            weather.undo()
        self.may_repeat += weather.may_repeat + outcomes.count(KILLED)
        repeated = self.site.forgetful.repeats()
        for number, outcome in enumerate(outcomes):
            # The repeat comes with the run after the one that was hit: it is counted where it was seen.
            self.account.note(happened or ["nothing"], outcome, (repeated - self.repeated) if number == 0 else 0)
        self.repeated = repeated
        if repeated > self.may_repeat:
            self.account.broken.append(
                f"{self.site.root.name}: {repeated} batches came again where {self.may_repeat} may have, "
                f"after {happened}"
            )
            self.may_repeat = repeated

    def _owes(self) -> bool:
        deployment = load_deployment(str(self.site.write_deployment()))
        with open_workspace(deployment) as place, place.ledger.read() as tx:
            source_id = sources.source_id(tx, place.source.url)
            if source_id is None:
                return bool(self.site.expected)
            active = subscriptions.active(tx, source_id)
            return any(one.manifests for one in owed.waiting(tx, source_id, active))

    def _last_log(self) -> str:
        log = self.site.root / "failures.log"
        return log.read_text()[-3_000:] if log.exists() else ""
