"""What the browser looks at: `export-pipeline dev` on sample data, with a receiver that can be held up or fail."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export_pipeline.batching.quarantine import Quarantine, entry_of
from export_pipeline.orchestration.names import RANGE_TAG
from export_pipeline.sample_bucket import Sample, make_sample_bucket
from export_pipeline.storage.objects import open_objects
from export_pipeline_tests.integration.dagster_dev import EXPORT_PIPELINE_DEV, SELECTOR, DagsterDev, dagster_dev
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.http import Reply, Request
from export_pipeline_tests.servers.receiver import Receiver

ROOT = Path(__file__).parents[2]
SECRET = "whsec_YnJvd3Nlci10ZXN0LXNlY3JldC1icm93c2Vy"
SECRET_VARIABLE = "CRM_WEBHOOK_SECRET"
# Every minute is the most that cron can say.
EVERY_MINUTE = "* * * * *"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


class Crm(Receiver):
    """A receiver of webhooks that answers late while it is held up, and with 503 while it is down."""

    def __init__(self) -> None:
        super().__init__(SECRET)
        self.is_down = False
        self._may_answer = threading.Event()
        self._may_answer.set()

    def hold_up(self) -> None:
        """Leave requests without an answer, until :meth:`let_go`."""
        self._may_answer.clear()

    def let_go(self) -> None:
        """Be well: answer what waits, and from now on at once."""
        self.is_down = False
        self._may_answer.set()

    def answer(self, request: Request) -> Reply:
        self._may_answer.wait(150)
        return Reply(503, b"down for maintenance") if self.is_down else super().answer(request)


class Stage:
    """A deployment, its `dagster dev`, and its receiver.

    Attributes:
        sample: what lay in the bucket at the start.
    """

    def __init__(self, project: Project, dev: DagsterDev, crm: Crm, sample: Sample) -> None:
        self.project = project
        self.dev = dev
        self.crm = crm
        self.sample = sample
        self._seed = 100
        self._knows_first_day = False

    def arrive(self, files: int = 3) -> Sample:
        """Put new sample files, of the last 24 hours, into the bucket."""
        self._seed += 1
        events = 20 * files
        return make_sample_bucket(
            self.project.bucket, events=events, files=files, days=1, seed=self._seed, broken=False
        )

    def days(self) -> list[str]:
        """The days of the sample, the first one first."""
        return sorted({"-".join(key.split("/")[:3]) for key in self.sample.files})

    def launch(self, job: str = "export_job") -> str:
        """Launch a job as the command line would; returns the run's id."""
        mutation = """mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
          ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
        selector = {**SELECTOR, "jobName": job}
        found = self.dev.ask(mutation, p={"selector": selector, "mode": "default"})["launchRun"]
        run_id: str = found["run"]["runId"]
        return run_id

    def status(self, run_id: str) -> str:
        """SUCCESS, FAILURE, STARTED, …"""
        found: str = next(run["status"] for run in self.dev.runs() if run["runId"] == run_id)
        return found

    def wait_until_ended(self, run_id: str) -> str:
        """The status in which a run ended."""
        return str(self.dev.wait_for(lambda: self.status(run_id) in ENDED and self.status(run_id)))

    def logged(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        """Events of one kind, such as ExecutionStepSuccessEvent, of a run: message and stepKey."""
        query = """query ($id: ID!) { logsForRun(runId: $id, limit: 1000) {
          ... on EventConnection { events { __typename ... on MessageEvent { message stepKey } } } } }"""
        events = self.dev.ask(query, id=run_id)["logsForRun"]["events"]
        return [event for event in events if event["__typename"] == kind]

    def wait_for_schedule(self, status: str) -> None:
        """Wait until export_schedule is RUNNING, or STOPPED."""
        query = """query ($s: InstigationSelector!) {
          instigationStateOrError(instigationSelector: $s) { ... on InstigationState { status } } }"""
        selector = {**SELECTOR, "name": "export_schedule"}
        self.dev.wait_for(lambda: self.dev.ask(query, s=selector)["instigationStateOrError"]["status"] == status)

    def backfill_runs(self, number: int) -> list[dict[str, Any]]:
        """The runs of backfill_job, once there are *number* and all have ended."""
        runs = [run for run in self.dev.runs() if run["jobName"] == "backfill_job"]
        return runs if len(runs) == number and all(run["status"] in ENDED for run in runs) else []

    def quarantined(self) -> list[str]:
        """The entries that wait in the quarantine."""
        quarantine = Quarantine(open_objects(str(self.project.root / "quarantine")))
        return sorted({entry_of(name) for name, _ in quarantine.records()})

    def checks_have_ended(self) -> bool:
        """Whether checks were run from an asset's page, and all have ended."""
        runs = [run for run in self.dev.runs() if run["jobName"].startswith("__")]
        return bool(runs) and all(run["status"] in ENDED for run in runs)

    def under_way(self) -> bool:
        """Whether a run of export_job has not ended."""
        return any(run["jobName"] == "export_job" and run["status"] not in ENDED for run in self.dev.runs())

    def settle(self) -> None:
        """Be well, and wait until no run is under way."""
        self.crm.let_go()
        self.dev.wait_for(lambda: not self.under_way())

    def ensure_under_way(self) -> None:
        """See that a run of export_job is under way, and stays so while the receiver is held up."""
        if not self.under_way():
            self.arrive()
            self.launch()

    def ensure_exported(self) -> None:
        """See that a run has exported something, so that there is a cursor and assets have numbers."""
        if not self.dev.cursor():
            self.crm.let_go()
            assert self.wait_until_ended(self.launch()) == "SUCCESS"
        if not self._knows_first_day:
            self.reload()
            self._knows_first_day = True

    def reload(self) -> None:
        """Load the definitions again, as the button does that reloads a code location."""
        mutation = """mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename
          ... on WorkspaceLocationEntry { loadStatus } } }"""
        found = self.dev.ask(mutation, name=SELECTOR["repositoryLocationName"])["reloadRepositoryLocation"]
        assert found == {"__typename": "WorkspaceLocationEntry", "loadStatus": "LOADED"}, found

    def partitions(self, asset: str) -> list[str]:
        """The days of an asset."""
        query = (
            "query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeys } } }"
        )
        found: list[str] = self.dev.ask(query, key={"path": [asset]})["assetNodeOrError"]["partitionKeys"]
        return found

    def materializing_runs(self) -> list[dict[str, Any]]:
        """The runs that materialize assets, once all have ended."""
        runs = [run for run in self.dev.runs() if any(tag["key"] == RANGE_TAG for tag in run["tags"])]
        return runs if all(run["status"] in ENDED for run in runs) else []


@contextmanager
def stage(root: Path) -> Iterator[Stage]:
    """Build it all up in *root*."""
    project = Project(root)
    shutil.copy(ROOT / "dagster.yaml", project.home)
    sample = make_sample_bucket(project.bucket)
    with Crm() as crm:
        project.config = _deployment(crm.url)
        with dagster_dev(project, command=EXPORT_PIPELINE_DEV, **{SECRET_VARIABLE: SECRET}) as dev:
            try:
                yield Stage(project, dev, crm, sample)
            finally:
                crm.let_go()


def _deployment(crm_url: str) -> dict[str, Any]:
    return {
        "source": {"url": "bucket"},
        "frequency": EVERY_MINUTE,
        "owners": ["team:analytics", "events@example.com"],
        "staging": {"url": "staging"},
        "quarantine": {"url": "quarantine"},
        "ledger": {"url": "ledger.db"},
        "subscribers": {
            "crm": {
                "type": "webhook",
                "url": crm_url,
                "secret": {"env": SECRET_VARIABLE},
                "retry_for_seconds": 0,
                "timeout_seconds": 200,
            },
            "archive": {"type": "files", "url": "delivered"},
        },
    }
