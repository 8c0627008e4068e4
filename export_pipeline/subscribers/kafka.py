"""Produce every event to a Kafka topic."""

import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.mapping import Event, Reader, compile_mapping
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.parsing import Unfit, encoded, may_hold_surrogates
from export_pipeline.subscribers.requests import RequestSubscriber
from export_pipeline.subscribers.scrubbing import scrub

POLL_SECONDS = 0.05
# Names of librdkafka's error codes; errors in none of these sets may be temporary.
OF_THE_MESSAGE = frozenset({"INVALID_MSG"})
# Errors of one message, or of a topic that accepts no such message at all, such as a compacted one that needs keys.
OF_EITHER = {
    "MSG_SIZE_TOO_LARGE": "the topic's max.message.bytes is too small",
    "RECORD_LIST_TOO_LARGE": "the topic's segment.bytes is too small",
    "INVALID_RECORD": "the topic accepts no such messages",
}
# Brokers apply the limit of one message to the record batch, into which the producer puts many messages.
OF_THE_RECORD_BATCH = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})
_BATCH_BYTES = 1_000_000  # librdkafka's batch.size
_SMALLER_BY = 8
OF_THE_CONFIGURATION = frozenset(
    {
        "CLUSTER_AUTHORIZATION_FAILED",
        "INVALID_CONFIG",
        "SASL_AUTHENTICATION_FAILED",
        "TOPIC_AUTHORIZATION_FAILED",
        "TOPIC_EXCEPTION",
        "UNKNOWN_TOPIC_OR_PART",
        "_AUTHENTICATION",
        "_INVALID_ARG",
        "_SSL",
        "_UNKNOWN_TOPIC",
    }
)


class Kafka(RequestSubscriber):
    """Produces each event to a topic as one message, with headers ``batch_id`` and ``event_id`` (the event's SHA-256).

    The producer is idempotent: its own retries leave no duplicates. A batch that a new process sends again does;
    consumers detect it by ``event_id``. A batch counts as accepted when all in-sync replicas have every message of it;
    messages that failed are produced again, alone.
    """

    bootstrap_servers: str = Field(
        description="Bootstrap brokers, separated by commas.", examples=["kafka-1.example.com:9093"]
    )
    topic: str = Field(description="Topic to produce to.")
    key: str | None = Field(
        default=None,
        description="Path to the message key in an event; messages with the same key keep their order, except those "
        "that failed and are produced again. By default no key.",
        examples=["endpoint.Id"],
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Protocol of the connections to brokers."
    )
    sasl_mechanism: str | None = Field(default=None, description="SASL mechanism, such as PLAIN or SCRAM-SHA-512.")
    sasl_username: str | None = Field(default=None, description="User name for SASL.")
    sasl_password: str | None = Field(default=None, description="Password for SASL.", json_schema_extra=SECRET)
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="How messages are compressed."
    )
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="Additional settings of librdkafka's producer.",
        examples=[{"ssl.ca.location": "/etc/ssl/kafka.pem"}],
    )
    secret_settings: dict[str, str] = Field(
        default_factory=dict,
        description="Additional settings whose values are secrets, such as ssl.key.password.",
        json_schema_extra=SECRET,
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="Timeout of a message, retries included, in seconds."
    )
    max_request_events: int = Field(default=50_000, ge=1, description="Maximum number of messages in flight.")
    max_request_bytes: int = Field(default=20_000_000, ge=1, description="Maximum number of bytes in flight.")
    max_event_bytes: int = Field(
        default=999_000,
        ge=1,
        description="Maximum event size in bytes: the topic's max.message.bytes minus about 1 KB.",
    )
    needs: ClassVar[tuple[str, ...]] = ("confluent_kafka",)
    separator_bytes: ClassVar[int] = 200
    _reader: Reader | None = PrivateAttr(default=None)
    _producer: Any = PrivateAttr(default=None)
    _batch_bytes: int = PrivateAttr(default=_BATCH_BYTES)
    _trouble: list[Any] = PrivateAttr(default_factory=list)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)

    @field_validator("key")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None:
            compile_mapping(value)
        return value

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event, unchanged.

        Raises:
            Unfit: its key cannot be encoded.
        """
        if self.key is not None and may_hold_surrogates(event) and (key := self._key_of(event)) is not None:
            encoded(key, self.key)
        return (event,)

    def post(self, request: Packed) -> Receipt:
        """Produce the messages and wait until each is reported as delivered or failed.

        Messages that were too large together are produced again in smaller record batches, finally one by one.
        """
        items = request.items
        failed, own = self._produce_all(dict(enumerate(items)), request.id)
        while self._batch_bytes > 1:
            together = [number for number, error in failed.items() if error.name() in OF_THE_RECORD_BATCH]
            if not together:
                break
            self._batch_bytes = max(1, self._batch_bytes // _SMALLER_BY)
            again, _ = self._produce_all({number: items[number] for number in sorted(together)}, request.id)
            failed = {number: error for number, error in failed.items() if number not in set(together)} | again
        return self._receipt(failed, own)

    def _produce_all(self, items: Mapping[int, bytes], batch_id: str) -> tuple[dict[int, Any], dict[int, Any]]:
        """Number of each message that failed → its error: those of the brokers, and those of the producer."""
        producer = self._open()
        outcomes: dict[int, Any] = {}
        own: dict[int, Any] = {}
        for number, item in items.items():
            if (error := self._produce(producer, number, item, batch_id, outcomes)) is not None:
                own[number] = error
        # Each message is reported after timeout_seconds at the latest (delivery.timeout.ms).
        while len(outcomes) + len(own) < len(items):
            producer.poll(POLL_SECONDS)
        failed = {number: error for number, error in outcomes.items() if error is not None}
        if failed or own:
            # After a failure an idempotent producer may be unusable.
            self.close()
        return failed, own

    def check(self) -> None:
        """Request the topic's metadata from the brokers."""
        from confluent_kafka import KafkaException

        producer = self._open()
        try:
            topics = producer.list_topics(self.topic, timeout=self.timeout_seconds).topics
        except KafkaException as error:
            producer.poll(0)
            raise self._meaning(error.args[0]) from None
        if topics[self.topic].error is not None:
            raise self._meaning(topics[self.topic].error)

    def close(self) -> None:
        """Drop the producer; nothing is in flight unless a deliver is running."""
        with self._opening:
            self._producer = None
            self._trouble.clear()

    def _produce(self, producer: Any, number: int, item: bytes, batch_id: str, outcomes: dict[int, Any]) -> Any:
        """Produce one message, whose result goes to *outcomes*; return the error if the producer does not accept it."""
        from confluent_kafka import KafkaException

        def told(error: Any, message: Any) -> None:
            outcomes[number] = error

        headers = [("batch_id", batch_id), ("event_id", hashlib.sha256(item).hexdigest())]
        while True:
            try:
                producer.produce(self.topic, item, self._key_of(item), headers=headers, on_delivery=told)
            except BufferError:  # the queue is full: wait for some to be delivered
                producer.poll(POLL_SECONDS)
            except KafkaException as error:
                return error.args[0]
            else:
                producer.poll(0)
                return None

    def _key_of(self, item: bytes) -> str | None:
        if self.key is None:
            return None
        if self._reader is None:
            self._reader = compile_mapping({"$first_id": [self.key]})
        found: str | None = None
        with suppress(Unfit):
            found = self._reader(Event(item))
        return found

    def _receipt(self, failed: dict[int, Any], own: dict[int, Any]) -> Receipt:
        refused: dict[int, str] = {}
        later: dict[int, str] = {}
        suspected: dict[int, str] = {}
        for number, error in sorted((failed | own).items()):
            name = error.name()
            if name in OF_THE_CONFIGURATION:
                raise self._meaning(error)
            of_the_event = name in OF_THE_MESSAGE or name in OF_EITHER
            (refused if of_the_event else later)[number] = f"{name}: {error.str()}"
            if name in OF_EITHER and number in failed:
                suspected[number] = OF_EITHER[name]
        trouble = [error for error in self._trouble if error.name() in OF_THE_CONFIGURATION]
        if later and trouble:
            raise self._meaning(trouble[-1])
        return Receipt(refused=refused, later=later, suspected=suspected)

    def _meaning(self, error: Any) -> Blocked | TryLater:
        """What an error that is not of a single message means; after a timeout, earlier errors of brokers count."""
        known = [error, *self._trouble]
        worst = next((one for one in known if one.name() in OF_THE_CONFIGURATION), error)
        text = scrub(f"{self.bootstrap_servers}: {worst.name()}: {worst.str()}", self.secret_values())
        meaning = Blocked if worst.name() in OF_THE_CONFIGURATION else TryLater
        return meaning(text, status=worst.name())

    def _open(self) -> Any:
        from confluent_kafka import KafkaException, Producer

        with self._opening:
            if self._producer is None:
                settings: dict[str, Any] = {
                    "bootstrap.servers": self.bootstrap_servers,
                    "security.protocol": self.security_protocol,
                    "sasl.mechanism": self.sasl_mechanism,
                    "sasl.username": self.sasl_username,
                    "sasl.password": self.sasl_password,
                    "compression.type": self.compression,
                    "enable.idempotence": True,
                    "delivery.timeout.ms": round(self.timeout_seconds * 1000),
                    "message.max.bytes": self.max_event_bytes + 1_000,
                    "linger.ms": 5,
                    "logger": logging.getLogger(__name__),
                    "error_cb": self._trouble.append,
                    **self.settings,
                    **self.secret_settings,
                }
                if self._batch_bytes < _BATCH_BYTES:
                    settings["batch.size"] = self._batch_bytes
                given = {name: value for name, value in settings.items() if value is not None}
                try:
                    self._producer = Producer(given)
                except KafkaException as error:
                    raise Blocked(scrub(f"settings: {error.args[0].str()}", self.secret_values())) from None
            return self._producer
