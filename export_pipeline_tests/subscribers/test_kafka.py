"""The kafka subscriber against librdkafka's brokers, over TCP."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from confluent_kafka import KafkaError
from pydantic import ValidationError

from export_pipeline.delivery.sending import Sent, send_to
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.kafka import Kafka
from export_pipeline.testing import SubscriberContract, batch_of, sample_event
from export_pipeline_tests.servers.kafka import KafkaCluster

numbers = count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as cluster:
        yield cluster


@pytest.fixture
def topic(cluster: KafkaCluster) -> str:
    name = f"topic-{next(numbers)}"
    cluster.create(name)
    return name


def make(cluster: KafkaCluster, topic: str, **options: Any) -> Kafka:
    given = {"bootstrap_servers": cluster.bootstrap, "topic": topic, "timeout_seconds": 60, **options}
    return Kafka(**given)


class TestContract(SubscriberContract):
    """A topic of three partitions."""

    repeat_is_harmless = False
    largest_event_bytes = 900_000
    failures = {
        "the broker is down": TryLater,
        "nobody listens": TryLater,
        "not allowed": Blocked,
        "no such topic": Blocked,
    }

    @pytest.fixture
    def subscriber(self, cluster: KafkaCluster, topic: str) -> Iterator[Subscriber]:
        self.cluster, self.topic = cluster, topic
        subscriber = make(cluster, topic)
        yield subscriber
        subscriber.close()

    def held(self) -> Iterable[bytes]:
        return [message.value() for message in self.cluster.messages(self.topic)]

    def send(self, subscriber: Subscriber, batch: Any) -> Sent:
        sent = super().send(subscriber, batch)
        assert isinstance(sent, Sent)
        return sent

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        options: dict[str, Any] = {"timeout_seconds": 1}
        if failure == "nobody listens":
            options["bootstrap_servers"] = "127.0.0.1:9"
        elif failure == "the broker is down":
            self.cluster.set_down()
        elif failure == "not allowed":
            self.cluster.fail_topic(self.topic, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        else:
            self.cluster.fail_topic(self.topic, KafkaError.UNKNOWN_TOPIC_OR_PART)
            options |= {"settings": {"topic.metadata.propagation.max.ms": "0"}}
        return make(self.cluster, self.topic, **options)

    def mend(self) -> None:
        self.cluster.set_up()
        self.cluster.fail_topic(self.topic, 0)


def test_headers_and_keys(cluster: KafkaCluster, topic: str) -> None:
    """Each message has the batch's id and the event's hash; the key comes from the event."""
    kafka = make(cluster, topic, key="endpoint.Id")
    batch = batch_of([sample_event(n) for n in range(9)] + [b"{}"], "b-1")
    assert send_to(kafka, batch) == Sent(accepted=10)
    kafka.close()
    messages = cluster.messages(topic)
    for message in messages:
        event_id = hashlib.sha256(message.value()).hexdigest()
        assert dict(message.headers()) == {"batch_id": b"b-1", "event_id": event_id.encode()}
    assert {message.key() for message in messages} == {b"endpoint-0", b"endpoint-1", b"endpoint-2", None}


def test_messages_of_one_key_keep_their_order(cluster: KafkaCluster, topic: str) -> None:
    """They are in one partition, in the order of the events."""
    kafka = make(cluster, topic, key="endpoint.Id")
    batch = batch_of([sample_event(n, endpoint={"Id": str(n % 2)}) for n in range(400)])
    assert send_to(kafka, batch).accepted == 400
    kafka.close()
    messages = cluster.messages(topic)
    for key in (b"0", b"1"):
        assert [message.value() for message in messages if message.key() == key] == batch.lines()[int(key) :: 2]


def test_what_the_broker_answers_badly_is_produced_again_by_the_producer(cluster: KafkaCluster, topic: str) -> None:
    """Passing errors of the protocol are the producer's own affair, and leave no duplicate."""
    kafka = make(cluster, topic)
    cluster.fail_produce(KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.REQUEST_TIMED_OUT, KafkaError.LEADER_NOT_AVAILABLE)
    batch = batch_of([sample_event(n) for n in range(50)])
    assert send_to(kafka, batch) == Sent(accepted=50)
    kafka.close()
    assert sorted(message.value() for message in cluster.messages(topic)) == sorted(batch.lines())


def test_a_broker_that_comes_back_gets_the_batch_in_the_same_run(cluster: KafkaCluster, topic: str) -> None:
    """While the broker is down messages time out; the next try, with a new producer, delivers them."""
    kafka = make(cluster, topic, timeout_seconds=1)
    cluster.set_down()
    batch = batch_of([sample_event(n) for n in range(5)])
    assert send_to(kafka, batch, sleep=lambda _: cluster.set_up()) == Sent(accepted=5)
    kafka.close()
    assert sorted(message.value() for message in cluster.messages(topic)) == sorted(batch.lines())


def test_a_message_that_is_too_large_for_the_broker_is_refused(cluster: KafkaCluster, topic: str) -> None:
    """What the topic can never take is quarantined, and the rest is produced."""
    kafka = make(cluster, topic, settings={"message.max.bytes": "20000"})
    large = b'{"x":"' + b"x" * 30_000 + b'"}'
    sent = send_to(kafka, batch_of([b"{}", large, b'{"a":1}']))
    kafka.close()
    assert sent.accepted == 2
    assert list(sent.refused) == [1]
    assert "MSG_SIZE_TOO_LARGE" in sent.refused[1]


def test_messages_that_are_too_large_together_are_produced_in_smaller_batches(
    cluster: KafkaCluster, topic: str
) -> None:
    """Brokers count the record batch against the limit of one message: none is refused, and none comes twice."""
    kafka = make(cluster, topic)
    cluster.fail_produce(*[KafkaError.MSG_SIZE_TOO_LARGE] * 3)
    batch = batch_of([sample_event(n) for n in range(200)])
    assert send_to(kafka, batch) == Sent(accepted=200)
    kafka.close()
    assert sorted(message.value() for message in cluster.messages(topic)) == sorted(batch.lines())


@pytest.mark.parametrize("code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD])
def test_a_topic_that_takes_no_message_at_all_blocks(cluster: KafkaCluster, topic: str, code: int) -> None:
    """Where every message is refused alone for the same reason, the topic is at fault."""
    kafka = make(cluster, topic)
    cluster.fail_produce(*[code] * 100)
    with pytest.raises(Blocked, match=r"3 of 3 events .* \(the topic"):
        send_to(kafka, batch_of([sample_event(n) for n in range(3)]))
    cluster.clear()
    kafka.close()


def test_a_key_that_cannot_be_encoded_keeps_back_its_own_event_only(cluster: KafkaCluster, topic: str) -> None:
    """Half of a surrogate pair: the others are produced once, in the same try, and the event is refused."""
    kafka = make(cluster, topic, key="endpoint.Id")
    events = [rb'{"endpoint":{"Id":"%s"}}' % key for key in (b"a", rb"\ud83d-1", rb"\ud83d\ude00")]
    sent = send_to(kafka, batch_of(events))
    kafka.close()
    assert sent == Sent(accepted=2, refused={1: "its value at endpoint.Id contains half of a surrogate pair"})
    assert {message.key() for message in cluster.messages(topic)} == {b"a", "\U0001f600".encode()}


def test_more_than_the_queue_holds(cluster: KafkaCluster, topic: str) -> None:
    """A full queue is waited for."""
    kafka = make(cluster, topic, settings={"queue.buffering.max.messages": "10"})
    assert send_to(kafka, batch_of([sample_event(n) for n in range(300)])) == Sent(accepted=300)
    kafka.close()
    assert len(cluster.messages(topic)) == 300


def test_check(cluster: KafkaCluster, topic: str) -> None:
    """A missing topic, and missing brokers, are reported."""
    kafka = make(cluster, topic)
    kafka.check()
    cluster.fail_topic(topic, KafkaError.UNKNOWN_TOPIC_OR_PART)
    with pytest.raises(Blocked, match="UNKNOWN_TOPIC_OR_PART"):
        kafka.check()
    kafka.close()
    away = make(cluster, topic, bootstrap_servers="127.0.0.1:9", timeout_seconds=1)
    with pytest.raises(TryLater, match=r"127\.0\.0\.1:9"):
        away.check()
    away.close()


def test_a_password_is_not_told(cluster: KafkaCluster, topic: str) -> None:
    """Where brokers do not answer to a login, the error names them and not the password."""
    kafka = make(
        cluster,
        topic,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password="p4ssw0rd-wrong",
        timeout_seconds=2,
    )
    with pytest.raises((Blocked, TryLater)) as caught:
        kafka.deliver(batch_of([b"{}"]))
    kafka.close()
    assert "p4ssw0rd" not in str(caught.value)


def test_a_setting_that_librdkafka_does_not_know_blocks() -> None:
    """The user has to fix it; its value, which may be a secret, is not shown."""
    kafka = Kafka(bootstrap_servers="127.0.0.1:9", topic="t", secret_settings={"ssl.key.pasword": "p4ssw0rd-of-key"})
    with pytest.raises(Blocked, match=r'No such configuration property: "ssl\.key\.pasword"'):
        kafka.deliver(batch_of([b"{}"]))
    kafka.close()


def test_a_key_that_cannot_be_read_keeps_no_event_back(cluster: KafkaCluster, topic: str) -> None:
    """An event that Python cannot parse is produced like one that has no key."""
    kafka = make(cluster, topic, key="a.n")
    hard = b'{"a":{"n":' + b"7" * 5_000 + b"}}"
    assert send_to(kafka, batch_of([hard, b'{"a":{"n":1}}'])) == Sent(accepted=2)
    kafka.close()
    assert {message.key() for message in cluster.messages(topic)} == {None, b"1"}


def test_options() -> None:
    """Which are secret, and what is found when the deployment loads."""
    assert secret_fields(Kafka) == {"sasl_password", "secret_settings"}
    with pytest.raises(ValidationError, match="is not a path"):
        Kafka(bootstrap_servers="b", topic="t", key="a..b")
