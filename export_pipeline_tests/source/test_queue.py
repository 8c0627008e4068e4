"""The queue of notifications, over the wire."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.errors import ConfigurationError, QueueFailed
from export_pipeline.source.queue import NotificationQueue, check_queue
from export_pipeline.source.settings import SourceSettings
from export_pipeline_tests.servers.guarded import GuardedServer, allowing
from export_pipeline_tests.servers.queues import REMOVED, ServerQueue, new_queue, notify
from export_pipeline_tests.servers.s3 import SECRET_KEY, S3Server, moto_server

POLICY = Path(__file__).parents[2] / "deployments" / "iam" / "notifications.json"
NEEDED: list[str] = json.loads(POLICY.read_text(encoding="utf-8"))["Statement"][0]["Action"]


def settings(server: S3Server, queue_url: str, *, bucket: str = "acme", **more: Any) -> SourceSettings:
    told = {"queue_url": queue_url, "visibility_seconds": 60}
    return SourceSettings.model_validate(
        {"url": f"s3://{bucket}/events/", **server.options, "max_attempts": 1, "notifications": told, **more}
    )


@pytest.fixture
def served(moto: S3Server) -> ServerQueue:
    return new_queue(moto)


@pytest.fixture
def queue(moto: S3Server, served: ServerQueue) -> Iterator[NotificationQueue]:
    opened = NotificationQueue(settings(moto, served.url))
    yield opened
    opened.close()


def test_all_messages_are_taken_and_removed(queue: NotificationQueue, served: ServerQueue) -> None:
    """More messages than one request takes are taken in several at once, and are gone once they were removed."""
    served.send(*[f"message {n}" for n in range(45)])
    messages, was_last = queue.receive(1_000)
    assert {message.body for message in messages} == {f"message {n}" for n in range(45)}
    assert was_last
    assert queue.delete(messages) == 0
    assert served.left() == 0


def test_no_more_are_taken_than_were_asked_for(queue: NotificationQueue, served: ServerQueue) -> None:
    """Of many messages only this many are received; the others stay for the next one, and those received are not
    repeated.
    """
    served.send(*[f"message {n}" for n in range(30)])
    first, was_last = queue.receive(13)
    assert (len(first), was_last) == (13, False)
    second, was_last = queue.receive(1_000)
    assert was_last
    assert {one.body for one in first} | {one.body for one in second} == {f"message {n}" for n in range(30)}


def test_an_empty_queue(queue: NotificationQueue) -> None:
    """It costs one request, which waits a second at most, and to remove nothing none: such a tick has to be cheap."""
    asked: list[bytes] = []
    queue._client.meta.events.register("before-send.sqs", lambda request, **_: asked.append(request.body))
    assert queue.receive(1_000) == ([], True)
    assert queue.delete([]) == 0
    (body,) = [json.loads(one) for one in asked]
    assert (body["VisibilityTimeout"], body["MaxNumberOfMessages"], body["WaitTimeSeconds"]) == (60, 10, 1)


def test_what_was_taken_and_not_removed_comes_again(queue: NotificationQueue, served: ServerQueue) -> None:
    """A message stays with the queue until it is removed: it is seen again once visibility_seconds are over."""
    served.send("message")
    (first,), _ = queue.receive(1)
    served.client.change_message_visibility(QueueUrl=served.url, ReceiptHandle=first.handle, VisibilityTimeout=0)
    (second,), _ = queue.receive(1)
    assert (second.id, second.body) == (first.id, first.body)
    assert queue.delete([second]) == 0
    assert served.left() == 0


def test_whether_there_are_dead_letters(moto: S3Server, served: ServerQueue, queue: NotificationQueue) -> None:
    """A queue with a redrive policy has them, another one has not."""
    assert queue.has_dead_letters() is False
    with_policy = NotificationQueue(settings(moto, new_queue(moto, dead_letters=served).url))
    assert with_policy.has_dead_letters() is True
    with_policy.close()


def test_a_queue_that_is_not_there(moto: S3Server) -> None:
    """The error names the setting, the queue, the cause and what is allowed, and no secret."""
    gone = NotificationQueue(settings(moto, f"{moto.url}/123456789012/no-such-queue"))
    with pytest.raises(QueueFailed, match=r"^source.notifications: the queue http\S*no-such-queue failed: ") as raised:
        gone.receive(1)
    assert "NonExistentQueue" in str(raised.value)
    assert str(raised.value).endswith("; allowed: a queue that exists, in the account and region that its URL names")
    assert raised.value.permission == ""
    assert SECRET_KEY not in str(raised.value)
    gone.close()


def test_messages_that_cannot_be_removed_are_counted(queue: NotificationQueue, served: ServerQueue) -> None:
    """If one deletion of a request fails, it is reported, and the message comes again."""
    served.send("a", "b")
    messages, _ = queue.receive(2)
    messages[0] = replace(messages[0], handle="no handle")
    assert queue.delete(messages) == 1
    assert served.left() == 1


def test_no_secret_stands_in_an_error(queue: NotificationQueue) -> None:
    """Whatever boto3 puts into the message of an error, the source's secrets are taken out of it."""

    def fails(_: Any) -> None:
        raise ValueError(f"cannot sign\nwith {SECRET_KEY}")

    with pytest.raises(QueueFailed, match="failed: cannot sign with") as raised:
        queue.ask("ReceiveMessage", fails)
    assert SECRET_KEY not in str(raised.value)


def test_a_queue_that_does_not_answer(moto: S3Server) -> None:
    """Where nobody listens the error says so."""
    with pytest.raises(QueueFailed, match="Could not connect"):
        NotificationQueue(settings(moto, "http://127.0.0.1:1/123456789012/queue")).receive(1)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/123456789012/uploads", "eu-central-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/123456789012/uploads", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/uploads", "cn-north-1"),
        ("https://vpce-0a1b-2c3d.sqs.eu-west-3.vpce.amazonaws.com/123456789012/uploads", "eu-west-3"),
        ("http://127.0.0.1:9324/000000000000/uploads", "us-east-1"),
    ],
)
def test_host_and_region_are_those_of_the_queue(moto: S3Server, url: str, region: str) -> None:
    """The queue may be in another region than the bucket: its URL says which, and requests go there."""
    client = NotificationQueue(settings(moto, url))._client
    assert (client.meta.region_name, client.meta.endpoint_url) == (region, url.rpartition("/")[0].rpartition("/")[0])


def test_a_fifo_queue_is_refused(moto: S3Server) -> None:
    """A queue that holds back all messages behind one that stays is refused when the file is loaded."""
    with pytest.raises(ValueError, match="found a FIFO queue; allowed: a standard queue"):
        settings(moto, "https://sqs.eu-west-1.amazonaws.com/123456789012/uploads.fifo")


@pytest.mark.parametrize("url", ["uploads", "s3://acme", "https://", "https://key:secret@sqs.amazonaws.com/1/q", ""])
def test_what_is_no_queue(moto: S3Server, url: str) -> None:
    """Text that is not the URL of a queue is refused when the deployment is read."""
    with pytest.raises(ValueError, match="allowed: the URL of a queue"):
        settings(moto, url)


def test_only_a_bucket_of_s3_can_tell(moto: S3Server) -> None:
    """Another store, and an access point without the name of its bucket, are refused with the reason."""
    told = {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/uploads"}
    with pytest.raises(ValueError, match="only S3 can notify a queue"):
        SourceSettings.model_validate({"url": "gs://acme/events", "notifications": told})
    access_point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"
    with pytest.raises(ValueError, match=r"notifications\.bucket is missing"):
        SourceSettings.model_validate({"url": access_point, "notifications": told})
    SourceSettings.model_validate({"url": access_point, "notifications": {**told, "bucket": "acme"}})


def test_the_check_tells_by_which_way_the_bucket_sends(moto: S3Server, served: ServerQueue) -> None:
    """The check passes where the bucket sends to the queue, and says what is missing where it sends nothing."""
    bucket = moto.new_bucket()
    given = settings(moto, served.url, bucket=bucket)
    with pytest.raises(
        ConfigurationError, match=f"{bucket} sends no notification to {served.arn}: found no notification config"
    ):
        check_queue(given)
    notify(moto, bucket, served)
    said = check_queue(given)
    assert f"{served.url}: messages can be received and deleted, about 1 message in it; {bucket} sends to it" in said
    assert "malformed messages go to the quarantine, since the queue has no dead-letter queue" in said
    assert served.left() == 1


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"prefix": "events/"}, "sends to it; "),
        ({"prefix": "ev"}, "sends to it; "),
        ({"prefix": "events/2026/"}, "sends to it, but only for keys such as events/2026/…; other files wait for"),
        ({"prefix": "events/", "suffix": ".gz"}, "sends to it, but only for keys such as events/….gz; other files"),
    ],
)
def test_the_check_tells_of_which_keys_the_bucket_sends(
    moto: S3Server, served: ServerQueue, told: dict[str, Any], said: str
) -> None:
    """Where a filter leaves out a part of the source, the check says which part it does not."""
    bucket = moto.new_bucket()
    notify(moto, bucket, served, **told)
    assert f"{bucket} {said}" in check_queue(settings(moto, served.url, bucket=bucket))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"prefix": "elsewhere/"},
            "notifies the queue of nothing below events/: found keys that begin with elsewhere/; ",
        ),
        (
            {"events": (REMOVED,)},
            r"notifies the queue of no new object: found s3:ObjectRemoved:\*; allowed: s3:ObjectCr",
        ),
    ],
)
def test_the_check_fails_where_the_queue_can_tell_of_no_file(
    moto: S3Server, served: ServerQueue, told: dict[str, Any], said: str
) -> None:
    """A bucket that notifies, but not for the source or not for new objects, is distinguished from one that does."""
    bucket = moto.new_bucket()
    notify(moto, bucket, served, **told)
    with pytest.raises(ConfigurationError, match=f"{bucket} {said}"):
        check_queue(settings(moto, served.url, bucket=bucket))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    with moto_server(folder) as server:
        yield GuardedServer(server)


def with_permissions(guarded: GuardedServer, actions: list[str], *bodies: str) -> SourceSettings:
    """The settings of a source with a new queue that holds messages, for a user with exactly these permissions."""
    login = guarded.login(allowing(actions))
    queue = new_queue(guarded.server)
    queue.send(*bodies)
    guarded.enforce(True)
    return settings(guarded.server, queue.url, **login)


@pytest.mark.thorough
@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_permission_is_named(guarded: GuardedServer, missing: str) -> None:
    """Of the three permissions that a run needs, the check names the one that is missing."""
    given = with_permissions(guarded, [one for one in NEEDED if one != missing])
    with pytest.raises(QueueFailed, match=f"the credentials lack {missing}") as raised:
        check_queue(given)
    assert raised.value.permission == missing
    assert not any(secret in str(raised.value) for secret in given.secrets())


@pytest.mark.thorough
def test_the_three_permissions_are_enough(guarded: GuardedServer) -> None:
    """With deployments/iam/notifications.json a run takes and removes messages; the rest stays untold."""
    given = with_permissions(guarded, NEEDED, "a", "b")
    assert "could not check whether acme sends to it" in check_queue(given)
    queue = NotificationQueue(given)
    messages, _ = queue.receive(10)
    assert {message.body for message in messages} == {"a", "b"}
    assert queue.delete(messages) == 0
    assert queue.has_dead_letters() is False
    queue.close()


@pytest.mark.thorough
def test_without_the_permission_to_remove_the_run_fails(guarded: GuardedServer) -> None:
    """Messages that must not be deleted are a serious error: it names the permission."""
    queue = NotificationQueue(with_permissions(guarded, ["sqs:ReceiveMessage"], "a"))
    messages, _ = queue.receive(10)
    with pytest.raises(QueueFailed, match="the credentials lack sqs:DeleteMessage"):
        queue.delete(messages)
    queue.close()


@pytest.mark.thorough
def test_without_the_permission_to_ask_the_queue_keeps_its_dead_letters(guarded: GuardedServer) -> None:
    """A queue that must not be asked for its policy counts as one that may have any."""
    queue = NotificationQueue(with_permissions(guarded, ["sqs:ReceiveMessage", "sqs:DeleteMessage"]))
    assert queue.has_dead_letters() is None
    queue.close()
