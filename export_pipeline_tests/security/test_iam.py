"""deployments/iam: with exactly these policies the export runs, and with one action less it does not.

moto enforces policies as AWS does, with exceptions that :func:`as_moto_reads_it` makes up for: it looks at resources of
S3 only, at the bucket where objects are deleted, and it takes a batch call of SQS for an action of its own. So that the
resources of all others are those meant is looked at in the files themselves.
"""

import copy
import gzip
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import httpx2
import pytest

from export_pipeline.cli.check import _objects
from export_pipeline.errors import Blocked, StoreError
from export_pipeline.storage.settings import StoreSettings
from export_pipeline.subscribers.firehose import Firehose
from export_pipeline.subscribers.kinesis import Kinesis
from export_pipeline.subscribers.sqs import Sqs
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.documents.blocks import ROOT
from export_pipeline_tests.integration.project import Project, Run
from export_pipeline_tests.servers.aws import aws_error
from export_pipeline_tests.servers.http import Reply, Request, Server
from export_pipeline_tests.servers.s3 import moto_server

FOLDER = ROOT / "deployments" / "iam"
POLICIES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
RUN_BY_THE_JOB = ("source", "staging_and_quarantine", "files", "kinesis", "firehose", "sqs")
REGION = "eu-central-1"
ROOT_KEYS: dict[str, Any] = {"aws_access_key_id": "AKIAROOT", "aws_secret_access_key": "root", "region_name": REGION}
ARNS = {
    "s3": r"arn:aws:s3:::[a-z-]+(/[a-z-]+/\*)?",
    "kinesis": r"arn:aws:kinesis:[a-z0-9-]+:\d{12}:stream/[a-z-]+",
    "firehose": r"arn:aws:firehose:[a-z0-9-]+:\d{12}:deliverystream/[a-z-]+",
    "sqs": r"arn:aws:sqs:[a-z0-9-]+:\d{12}:[a-z-]+",
}
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
BATCH_CALLS = {"sqs:SendMessage": "sqs:SendMessageBatch", "sqs:DeleteMessage": "sqs:DeleteMessageBatch"}
# Only an upload in parts, of more than 64 MiB, that fails half-way asks for it.
NEVER_ASKED_FOR = "s3:AbortMultipartUpload"


def actions_of(name: str) -> list[str]:
    return [action for statement in POLICIES[name]["Statement"] for action in statement["Action"]]


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_names_its_actions_and_its_place(name: str) -> None:
    """No wildcard stands for an action, a bucket, a stream or a queue, and each resource is of its action's service."""
    for statement in POLICIES[name]["Statement"]:
        assert statement.keys() == {"Sid", "Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
        for action in statement["Action"]:
            service, _, verb = action.partition(":")
            assert re.fullmatch(r"[A-Z][A-Za-z]+", verb)
            for resource in statement["Resource"]:
                assert re.fullmatch(ARNS[service], resource), resource
                of_objects = verb.endswith(("Object", "Upload"))
                assert service != "s3" or ("/" in resource) is of_objects, f"{action} on {resource}"


def as_moto_reads_it(policy: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A policy for the buckets of the test, with what moto takes otherwise than AWS.

    Args:
        names: bucket as in the file → bucket of the test.
    """
    made = copy.deepcopy(policy)
    for statement in made["Statement"]:
        resources = []
        for resource in statement["Resource"]:
            _, _, place = resource.partition(":::")
            bucket, slash, rest = place.partition("/")
            resources.append(f"arn:aws:s3:::{names[bucket]}{slash}{rest}" if place else "*")
        statement["Resource"] = resources
        statement["Action"] += [BATCH_CALLS[action] for action in statement["Action"] if action in BATCH_CALLS]
        if "s3:DeleteObject" in statement["Action"]:
            made["Statement"] = [
                *made["Statement"],
                {"Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": [resources[0].partition("/")[0]]},
            ]
    return made


def without(policy: dict[str, Any], action: str) -> dict[str, Any]:
    made = copy.deepcopy(policy)
    for statement in made["Statement"]:
        statement["Action"] = [one for one in statement["Action"] if one != action]
    made["Statement"] = [statement for statement in made["Statement"] if statement["Action"]]
    return made


class Front(Server):
    """Before moto, which answers a refusal in XML to those who speak JSON: AWS says AccessDeniedException."""

    def __init__(self, moto_url: str) -> None:
        super().__init__()
        self._moto_url = moto_url
        self._client = httpx2.Client()

    def answer(self, request: Request) -> Reply:
        # Host included: it is signed.
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        answer = self._client.post(self._moto_url + request.target, content=request.body, headers=headers)
        if answer.status_code == 403:
            return aws_error("AccessDeniedException")
        return Reply(answer.status_code, answer.content, {"content-type": answer.headers["content-type"]})

    def __exit__(self, *exit: Any) -> None:
        super().__exit__(*exit)
        self._client.close()


class Account:
    """An AWS account of the test's own, in which a user may do what its policies allow."""

    def __init__(self, url: str, front: str) -> None:
        self.url = url
        self.front = front
        self.enforce(False)
        self.buckets = {name: name for name in ("acme-analytics", "acme-export", "acme-lake")}
        for bucket in (*self.buckets, "behind-firehose"):
            self.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.client("kinesis").create_stream(StreamName="events", ShardCount=1)
        self.client("firehose").create_delivery_stream(
            DeliveryStreamName="events",
            S3DestinationConfiguration={
                "RoleARN": "arn:aws:iam::123456789012:role/firehose",
                "BucketARN": "arn:aws:s3:::behind-firehose",
            },
        )
        self.queue_url = self.client("sqs").create_queue(QueueName="events")["QueueUrl"]
        iam = self.client("iam")
        iam.create_user(UserName="export")
        key = iam.create_access_key(UserName="export")["AccessKey"]
        self.keys = {
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"],
            "region_name": REGION,
            "endpoint_url": url,
        }

    def client(self, service: Any) -> Any:
        return boto3.client(service, endpoint_url=self.url, **ROOT_KEYS)

    def allow(self, policies: dict[str, dict[str, Any]]) -> None:
        """Give the user exactly these, and look at them from now on."""
        self.enforce(False)
        iam = self.client("iam")
        for name in iam.list_user_policies(UserName="export")["PolicyNames"]:
            iam.delete_user_policy(UserName="export", PolicyName=name)
        for name, policy in policies.items():
            if not policy["Statement"]:
                continue
            document = json.dumps(as_moto_reads_it(policy, self.buckets))
            iam.put_user_policy(UserName="export", PolicyName=name, PolicyDocument=document)
        self.enforce(True)

    def enforce(self, yes: bool) -> None:
        answer = httpx2.post(f"{self.url}/moto-api/reset-auth", content=b"0" if yes else b"inf")
        assert answer.status_code == 200


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    # A server of its own: once policies are enforced, it refuses everybody else.
    with moto_server(tmp_path_factory.mktemp("iam")) as server, Front(server.url) as front:
        yield Account(server.url, front.url)


@pytest.fixture
def exporting(account: Account, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A deployment all of whose places are the account's, with one new file."""
    monkeypatch.setenv("THE_KEY", account.keys["aws_access_key_id"])
    monkeypatch.setenv("THE_SECRET", account.keys["aws_secret_access_key"])
    login = {
        "endpoint_url": account.url,
        "region_name": REGION,
        "aws_access_key_id": {"env": "THE_KEY"},
        "aws_secret_access_key": {"env": "THE_SECRET"},
    }
    once = {"retry_for_seconds": 0, **login}
    spoken = {**once, "endpoint_url": account.front}
    project.config.update(
        source={"url": "s3://acme-analytics/events/", **login},
        staging={"url": "s3://acme-export/staging", **login},
        quarantine={"url": "s3://acme-export/quarantine", **login},
        subscribers={
            "lake": {"type": "files", "url": "s3://acme-lake/events/", **once},
            "stream": {"type": "kinesis", "stream_name": "events", **spoken},
            "hose": {"type": "firehose", "stream_name": "events", **spoken},
            "queue": {"type": "sqs", "queue_url": account.queue_url, **spoken},
        },
    )
    account.enforce(False)
    body = gzip.compress(b'{"n":1}\n{broken\n')
    account.client("s3").put_object(Bucket="acme-analytics", Key="events/2026/11/23/a.gz", Body=body)
    return project


def policies(*names: str) -> dict[str, dict[str, Any]]:
    return {name: POLICIES[name] for name in names}


@pytest.mark.thorough
def test_the_export_runs_with_exactly_these(account: Account, exporting: Project) -> None:
    """Listing, reading, staging, quarantine and four destinations at AWS need no right that the files do not give."""
    account.allow(policies(*RUN_BY_THE_JOB))
    run = exporting.run()
    assert run.success, run.failures
    assert exporting.run().success
    account.enforce(False)
    s3 = account.client("s3")
    (lake,) = s3.list_objects_v2(Bucket="acme-lake")["Contents"]
    assert s3.get_object(Bucket="acme-lake", Key=lake["Key"])["Body"].read() == b'{"n":1}\n'
    kept = {found["Key"].partition("/")[0] for found in s3.list_objects_v2(Bucket="acme-export")["Contents"]}
    assert kept == {"quarantine"}
    assert len(account.client("sqs").receive_message(QueueUrl=account.queue_url)["Messages"]) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("action", actions_of("source"))
def test_the_source_needs_each_of_its_actions(account: Account, exporting: Project, action: str) -> None:
    """Without one of them the run fails, and says that access was denied."""
    account.allow({**policies(*RUN_BY_THE_JOB[1:]), "source": without(POLICIES["source"], action)})
    run: Run = exporting.run()
    assert not run.success
    assert re.search("AccessDenied|Forbidden|403|denied", " ".join([*run.failures.values(), *run.messages("error")]))


@pytest.mark.thorough
@pytest.mark.parametrize("action", [*actions_of("staging_and_quarantine"), ""])
@pytest.mark.parametrize("place", ["staging", "quarantine"])
def test_staging_needs_each_of_its_actions(account: Account, action: str, place: str) -> None:
    """What `export-pipeline check` tries there, to put, get, list and delete an object, fails without one of them."""
    account.allow({"staging": without(POLICIES["staging_and_quarantine"], action)})
    settings = StoreSettings(max_attempts=1, **account.keys)
    url = f"s3://acme-export/{place}"
    if action in ("", NEVER_ASKED_FOR):
        assert "wrote, listed, read and deleted a test object in" in _objects(url, settings)
        return
    with pytest.raises(StoreError):
        _objects(url, settings)


@pytest.mark.thorough
def test_staging_gives_no_right_beside_it(account: Account) -> None:
    """The same policy opens no other folder of the bucket."""
    account.allow(policies("staging_and_quarantine", "source", "files"))
    for url in ("s3://acme-export/elsewhere", "s3://acme-analytics/events", "s3://acme-lake/other"):
        with pytest.raises(StoreError):
            _objects(url, StoreSettings(max_attempts=1, **account.keys))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["kinesis", "firehose", "sqs"])
def test_a_destination_needs_its_action(account: Account, name: str) -> None:
    """With the policy a batch is accepted; without its one action the subscriber is blocked, and the user must act."""
    batch = batch_of([sample_event(1)])
    options: dict[str, Any] = {**account.keys, "endpoint_url": account.front, "timeout_seconds": 60}
    makers: dict[str, Callable[[], Any]] = {
        "kinesis": lambda: Kinesis(stream_name="events", **options),
        "firehose": lambda: Firehose(stream_name="events", **options),
        "sqs": lambda: Sqs(queue_url=account.queue_url, **options),
    }
    made = makers[name]()
    with closing(made):
        account.allow(policies(name))
        made.deliver(batch)
        made.check()  # may be told no: who may only write has all that is needed
        (action,) = actions_of(name)
        account.allow({name: without(POLICIES[name], action)})
        with pytest.raises(Blocked, match="AccessDenied"):
            made.deliver(batch)


def test_the_page_tells_of_every_policy() -> None:
    """docs/security.md names each file, and each file that it names is there."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)\.json`", page)) == set(POLICIES)
