"""Kinesis, Firehose and SQS against moto's server over HTTP."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest

from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.aws import AwsSubscriber
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.firehose import Firehose
from export_pipeline.subscribers.kinesis import Kinesis
from export_pipeline.subscribers.sqs import Sqs
from export_pipeline.testing import SubscriberContract, batch_of, sample_event
from export_pipeline_tests.servers.aws import AwsServer, aws_error, start_moto
from export_pipeline_tests.servers.certificate import self_signed
from export_pipeline_tests.servers.http import Fault, Reply, ResetWhileAnswering, ResetWhileReading, Silence

KEYS: dict[str, Any] = {
    "aws_access_key_id": "AKIDEXAMPLE1",
    "aws_secret_access_key": "s3cr3t-access-key",
    "region_name": "eu-central-1",
}
names = count()


@cache
def client_of(service: Any, url: str) -> Any:
    """Making a client takes a fifth of a second."""
    made: Any = boto3.client(service, endpoint_url=url, **KEYS)
    return made


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server, url = start_moto()
    yield url
    for service in ("kinesis", "firehose", "s3", "sqs"):
        client_of(service, url).close()
    server.stop()


class AwsContract(SubscriberContract):
    """What the three have in common."""

    repeat_is_harmless = False
    failures = {
        "throttled": TryLater,
        "500": TryLater,
        "silent": TryLater,
        "reset while reading": TryLater,
        "reset while answering": TryLater,
        "nobody listens": TryLater,
        "access denied": Blocked,
        "expired token": Blocked,
        "no such place": Blocked,
        "invalid": Refused,
    }
    faults: Mapping[str, Fault] = {
        "throttled": aws_error("ThrottlingException"),
        "500": Reply(500, b"{}"),
        "silent": Silence(),
        "reset while reading": ResetWhileReading(),
        "reset while answering": ResetWhileAnswering(),
        "access denied": aws_error("AccessDeniedException"),
        "expired token": aws_error("ExpiredTokenException"),
        "invalid": aws_error("InvalidArgumentException"),
    }

    @pytest.fixture
    def subscriber(self, moto: str) -> Iterator[Subscriber]:
        self.moto = moto
        self.name = f"place-{next(names)}"
        self.seen: list[bytes] = []
        with AwsServer(moto) as self.server:
            self.set_up()
            subscriber = self.make(self.name)
            yield subscriber
            subscriber.close()

    def client(self, service: str) -> Any:
        return client_of(service, self.moto)

    @property
    def options(self) -> dict[str, Any]:
        return {**KEYS, "endpoint_url": self.server.url}

    def set_up(self) -> None:
        raise NotImplementedError

    def make(self, name: str, **options: Any) -> Subscriber:
        raise NotImplementedError

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        if failure == "no such place":
            return self.make("there-is-no-such")
        if failure == "nobody listens":
            return self.make(self.name, endpoint_url="http://127.0.0.1:9")
        self.server.standing = self.faults[failure]
        # For this one only: where moto takes longer for a request, the client sends it again, and both take effect.
        return self.make(self.name, timeout_seconds=0.5) if failure == "silent" else subscriber

    def mend(self) -> None:
        self.server.standing = None


class TestKinesis(AwsContract):
    """A stream of two shards."""

    def set_up(self) -> None:
        kinesis = self.client("kinesis")
        kinesis.create_stream(StreamName=self.name, ShardCount=2)
        kinesis.get_waiter("stream_exists").wait(StreamName=self.name, WaiterConfig={"Delay": 1})

    def make(self, name: str, **options: Any) -> Subscriber:
        return Kinesis(stream_name=name, **{**self.options, **options})

    def held(self) -> Iterable[bytes]:
        kinesis = self.client("kinesis")
        held: list[bytes] = []
        for shard in kinesis.describe_stream(StreamName=self.name)["StreamDescription"]["Shards"]:
            iterator = kinesis.get_shard_iterator(
                StreamName=self.name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            held += [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]]
        return held


class TestFirehose(AwsContract):
    """A stream that delivers to S3."""

    def set_up(self) -> None:
        s3, firehose = self.client("s3"), self.client("firehose")
        s3.create_bucket(Bucket=f"bucket-{self.name}", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        firehose.create_delivery_stream(
            DeliveryStreamName=self.name,
            ExtendedS3DestinationConfiguration={
                "RoleARN": "arn:aws:iam::123456789012:role/firehose",
                "BucketARN": f"arn:aws:s3:::bucket-{self.name}",
            },
        )

    def make(self, name: str, **options: Any) -> Subscriber:
        return Firehose(stream_name=name, **{**self.options, **options})

    def held(self) -> Iterable[bytes]:
        s3 = self.client("s3")
        bucket = f"bucket-{self.name}"
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        bodies = [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed]
        return [line for body in bodies for line in body.split(b"\n")[:-1]]


class TestSqs(AwsContract):
    """A standard queue."""

    largest_event_bytes = 200_000
    fifo = ""

    def set_up(self) -> None:
        sqs = self.client("sqs")
        self.name += self.fifo
        attributes = {"FifoQueue": "true"} if self.fifo else {}
        self.url = sqs.create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"]

    def make(self, name: str, **options: Any) -> Subscriber:
        return Sqs(queue_url=self.url.replace(self.name, name), **{**self.options, **options})

    def held(self) -> Iterable[bytes]:
        """Messages can be read once only: what was read before is remembered."""
        sqs = self.client("sqs")
        while messages := sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                body = message["Body"].encode()
                assert message["MessageAttributes"]["event_id"]["StringValue"] == hashlib.sha256(body).hexdigest()
                self.seen.append(body)
                sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return self.seen


class TestSqsFifo(TestSqs):
    """A FIFO queue knows a repeat by the event's hash."""

    fifo = ".fifo"
    repeat_is_harmless = True


@pytest.fixture
def server(moto: str) -> Iterator[AwsServer]:
    with AwsServer(moto) as server:
        yield server


def options_of(server: AwsServer) -> dict[str, Any]:
    return {**KEYS, "endpoint_url": server.url, "timeout_seconds": 60}


def put_counts(server: AwsServer) -> list[int]:
    bodies = [json.loads(request.body) for request in server.requests]
    return [len(body["Records"]) for body in bodies if "Records" in body]


@pytest.mark.parametrize("kind", [TestKinesis, TestFirehose])
def test_only_the_records_that_failed_are_put_again(
    moto: str, server: AwsServer, kind: type[AwsContract], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of the records is throttled at first: those alone come again, and each record is there once."""
    there = kind()
    there.moto, there.name, there.server, there.seen = moto, f"place-{next(names)}", server, []
    there.set_up()
    batch = batch_of([sample_event(n) for n in range(30)])
    refused_once: set[bytes] = set()

    def throttled(record: bytes) -> bool:
        event = record.rstrip(b"\n")
        first = event not in refused_once and batch.lines().index(event) % 3 == 0
        refused_once.add(event)
        return first

    server.throttled = throttled
    subscriber = there.make(there.name)
    waits: list[float] = []
    assert send_to(subscriber, batch, sleep=waits.append) == Sent(accepted=30)
    subscriber.close()
    assert put_counts(server) == [30, 10]
    assert len(waits) == 1
    there.assert_holds(batch)


def test_requests_keep_the_limits_of_kinesis(moto: str, server: AwsServer) -> None:
    """At most 500 records a request, and records of one key in the order of the events."""
    there = TestKinesis()
    there.moto, there.name, there.server, there.seen = moto, f"place-{next(names)}", server, []
    there.set_up()
    kinesis = there.make(there.name, partition_key="endpoint.Id")
    batch = batch_of([sample_event(n, endpoint={"Id": "one"}) for n in range(1_200)])
    assert send_to(kinesis, batch).accepted == 1_200
    kinesis.close()
    assert put_counts(server) == [500, 500, 200]
    keys = {record["PartitionKey"] for request in server.requests for record in json.loads(request.body)["Records"]}
    assert keys == {"one"}
    assert list(there.held())[:5] == batch.lines()[:5]


def test_without_a_key_records_are_spread_by_their_hash(server: AwsServer) -> None:
    """An event that has nothing at the path gets its hash as key, and so does every event without a path."""
    for key in (None, "nothing.there"):
        kinesis = Kinesis(stream_name="x", partition_key=key, **options_of(server))
        with pytest.raises(Blocked):
            kinesis.deliver(batch_of([b"{}"]))
        kinesis.close()
        [record] = json.loads(server.requests[-1].body)["Records"]
        assert record["PartitionKey"] == hashlib.sha256(b"{}").hexdigest()[:32]


def test_sqs_names_what_is_the_senders_fault(server: AwsServer) -> None:
    """A message that SQS can never take is refused, one that it failed to take comes again alone."""
    sqs = Sqs(queue_url=f"{server.url}/123456789012/q", **options_of(server))
    failed = [
        {"Id": "0", "SenderFault": True, "Code": "InvalidMessageContents", "Message": "bad character"},
        {"Id": "2", "SenderFault": False, "Code": "InternalError", "Message": "again"},
    ]
    again = {"Successful": [{"Id": "0", "MessageId": "b", "MD5OfMessageBody": hashlib.md5(b'{"n":2}').hexdigest()}]}
    first = {
        "Successful": [{"Id": "1", "MessageId": "a", "MD5OfMessageBody": hashlib.md5(b'{"n":1}').hexdigest()}],
        "Failed": failed,
    }
    header = {"content-type": "application/x-amz-json-1.0"}
    server.script.extend([Reply(200, json.dumps(told).encode(), header) for told in (first, again)])
    sent = send_to(sqs, batch_of([b'{"n":0}', b'{"n":1}', b'{"n":2}']), sleep=lambda _: None)
    sqs.close()
    assert sent == Sent(accepted=2, refused={0: "InvalidMessageContents: bad character"})
    assert [len(json.loads(request.body)["Entries"]) for request in server.requests] == [3, 1]


def test_fifo_groups(server: AwsServer) -> None:
    """The group is at the configured path, cut to what SQS takes; without a path all messages are of one."""
    for path, group in (("user", "u" * 128), (None, "events")):
        sqs = Sqs(queue_url=f"{server.url}/123456789012/q.fifo", message_group=path, **options_of(server))
        server.script.append(aws_error("AccessDeniedException"))
        with pytest.raises(Blocked):
            sqs.deliver(batch_of([b'{"user":"' + b"u" * 200 + b'"}']))
        sqs.close()
        assert json.loads(server.requests[-1].body)["Entries"][0]["MessageGroupId"] == group


@pytest.mark.parametrize("user", ['"\\ud83d-1"', '"Zoë"', '"a b"', '"a\\nb"'])
def test_a_group_that_sqs_would_refuse_is_hashed(server: AwsServer, user: str) -> None:
    """Text that SQS does not accept as a group's name still keeps its messages together, and blocks no others."""
    sqs = Sqs(queue_url=f"{server.url}/123456789012/q.fifo", message_group="user", **options_of(server))
    server.script.append(aws_error("AccessDeniedException"))
    with pytest.raises(Blocked):
        sqs.deliver(batch_of([*(f'{{"user":{user},"n":{n}}}'.encode() for n in range(2)), b'{"user":1}']))
    sqs.close()
    groups = [entry["MessageGroupId"] for entry in json.loads(server.requests[-1].body)["Entries"]]
    assert groups[0] == groups[1]
    assert len(groups[0]) in (32, 64)
    assert groups[2] == "1"


def test_a_partition_key_with_half_a_surrogate_pair_is_hashed(server: AwsServer) -> None:
    """Kinesis could not read the request; one key stays one key, and other scripts stay as they are."""
    kinesis = Kinesis(stream_name="x", partition_key="id", **options_of(server))
    server.script.append(aws_error("AccessDeniedException"))
    with pytest.raises(Blocked):
        kinesis.deliver(batch_of([rb'{"id":"\ud83d-1"}', rb'{"id":"\ud83d-1","n":2}', '{"id":"Zoë\u2028"}'.encode()]))
    kinesis.close()
    keys = [record["PartitionKey"] for record in json.loads(server.requests[-1].body)["Records"]]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 64
    assert keys[2] == "Zoë\u2028"


@pytest.mark.parametrize("kind", [Kinesis, Firehose, Sqs])
def test_an_oversized_event_is_refused_before_it_is_sent(server: AwsServer, kind: type[AwsSubscriber]) -> None:
    """What AWS can never take is quarantined with its size and the limit."""
    place: Any = {"queue_url": "https://x/q"} if kind is Sqs else {"stream_name": "x"}
    cut = kind(**place, **options_of(server)).cut(batch_of([b"{}", b'{"x":"' + b"x" * 1_100_000 + b'"}']))
    assert list(cut.refused) == [1]
    assert "bytes; allowed: " in cut.refused[1]


@pytest.mark.parametrize("kind", [TestKinesis, TestFirehose, TestSqs])
def test_check_asks_for_no_more_rights_than_sending(moto: str, server: AwsServer, kind: type[AwsContract]) -> None:
    """Credentials that may only write pass the check; a place that is not there does not."""
    there = kind()
    there.moto, there.name, there.server, there.seen = moto, f"place-{next(names)}", server, []
    there.set_up()
    subscriber = there.make(there.name)
    server.script.append(aws_error("AccessDeniedException"))
    subscriber.check()
    subscriber.check()
    subscriber.close()
    nowhere = there.make("there-is-no-such")
    with pytest.raises(Blocked):
        nowhere.check()
    nowhere.close()


def test_without_credentials_it_is_blocked(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing credentials block until the user acts, instead of being retried."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    place: dict[str, Any] = {"region_name": "eu-central-1", "endpoint_url": server.url}
    kinesis = Kinesis(stream_name="x", **place)
    with pytest.raises(Blocked, match="NoCredentialsError"):
        kinesis.deliver(batch_of([b"{}"]))
    kinesis.close()


def test_credentials_are_secret() -> None:
    """The deployment file may give these only as {env: NAME}."""
    for kind in (Kinesis, Firehose, Sqs):
        assert secret_fields(kind) == {
            "client_key_password",
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
        }


def as_answer(told: Any, version: str = "1.1") -> Reply:
    return Reply(200, json.dumps(told).encode(), {"content-type": f"application/x-amz-json-{version}"})


@pytest.mark.parametrize(("kind", "key"), [(Kinesis, "Records"), (Firehose, "RequestResponses")])
def test_a_record_that_the_answer_leaves_out_comes_again(server: AwsServer, kind: Any, key: str) -> None:
    """What nobody says was taken does not count as accepted."""
    taken = {"SequenceNumber": "1", "ShardId": "s", "RecordId": "r"}
    server.script.extend([as_answer({key: [taken]}), as_answer({key: [taken, taken]})])
    subscriber = kind(stream_name="x", **options_of(server))
    assert send_to(subscriber, batch_of([b'{"n":0}', b'{"n":1}', b'{"n":2}']), sleep=lambda _: None) == Sent(accepted=3)
    subscriber.close()
    assert put_counts(server) == [3, 2]


def sqs_of(server: AwsServer) -> Sqs:
    return Sqs(queue_url=f"{server.url}/123456789012/q", **options_of(server))


def test_a_message_that_sqs_leaves_out_comes_again(server: AwsServer) -> None:
    """A message stands among the successful ones, or it was not taken."""
    taken = {"MessageId": "a", "MD5OfMessageBody": hashlib.md5(b'{"n":1}').hexdigest(), "Id": "1"}
    again = {**taken, "MD5OfMessageBody": hashlib.md5(b'{"n":0}').hexdigest(), "Id": "0"}
    server.script.extend([as_answer({"Successful": [one]}, "1.0") for one in (taken, again)])
    sqs = sqs_of(server)
    assert send_to(sqs, batch_of([b'{"n":0}', b'{"n":1}']), sleep=lambda _: None) == Sent(accepted=2)
    sqs.close()
    assert [len(json.loads(request.body)["Entries"]) for request in server.requests] == [2, 1]


@pytest.mark.parametrize("code", ["KMS.AccessDeniedException", "AccessDenied", "KmsDisabled"])
def test_a_missing_right_is_no_fault_of_a_message(server: AwsServer, code: str) -> None:
    """SQS calls it the sender's fault, but the user has to fix it, and no message is quarantined."""
    failed = {"Id": "0", "SenderFault": True, "Code": code, "Message": "no key"}
    server.script.append(as_answer({"Successful": [], "Failed": [failed]}, "1.0"))
    sqs = sqs_of(server)
    with pytest.raises(Blocked, match=code):
        send_to(sqs, batch_of([b"{}"]))
    sqs.close()


def test_a_certificate_that_is_not_trusted_blocks(moto: str, tmp_path: Path) -> None:
    """No event is sent to a server without a trusted certificate."""
    server = AwsServer(moto)
    server.tls, _ = self_signed(tmp_path)
    with server:
        kinesis = Kinesis(stream_name="x", **options_of(server))
        with pytest.raises(Blocked, match="certificate is not trusted: self-signed"):
            kinesis.deliver(batch_of([b"{}"]))
        kinesis.close()
        assert server.requests == []
