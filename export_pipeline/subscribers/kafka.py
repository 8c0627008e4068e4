"""Produce every event to a Kafka topic."""

import hashlib
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import SECRET
from export_pipeline.subscribers.mapping import Event, Reader, compile_mapping
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.parsing import Unfit
from export_pipeline.subscribers.requests import RequestSubscriber
from export_pipeline.subscribers.scrubbing import scrub

POLL_SECONDS = 0.05
# Names of librdkafka's error codes; what is in neither set may pass by itself.
OF_THE_MESSAGE = frozenset({"MSG_SIZE_TOO_LARGE", "INVALID_MSG", "INVALID_RECORD", "RECORD_LIST_TOO_LARGE"})
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

    The producer is idempotent: its own retries leave no duplicate. A batch that a new process sends again does, and
    ``event_id`` tells it. A batch counts as accepted when all in-sync replicas have every message of it; messages that
    failed are produced again, alone.
    """

    bootstrap_servers: str = Field(
        description="Brokers to begin with, separated by commas.", examples=["kafka-1.example.com:9093"]
    )
    topic: str = Field(description="Topic to produce to.")
    key: str | None = Field(
        default=None,
        description="Path to the message key in an event; messages of one key keep their order, but for those that "
        "failed and are produced again. By default no key.",
        examples=["endpoint.Id"],
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How brokers are reached."
    )
    sasl_mechanism: str | None = Field(default=None, description="Such as PLAIN or SCRAM-SHA-512.")
    sasl_username: str | None = Field(default=None, description="User name for SASL.")
    sasl_password: str | None = Field(default=None, description="Password for SASL.", json_schema_extra=SECRET)
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="How messages are compressed."
    )
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="More settings of librdkafka's producer.",
        examples=[{"ssl.ca.location": "/etc/ssl/kafka.pem"}],
    )
    secret_settings: dict[str, str] = Field(
        default_factory=dict,
        description="More settings whose values are secrets, such as ssl.key.password.",
        json_schema_extra=SECRET,
    )
    timeout_seconds: float = Field(default=60.0, gt=0, description="How long a message may take, retries included.")
    max_request_events: int = Field(default=50_000, ge=1, description="Most messages on their way at once.")
    max_request_bytes: int = Field(default=20_000_000, ge=1, description="Most bytes on their way at once.")
    max_event_bytes: int = Field(
        default=999_000, ge=1, description="Largest event; the topic's max.message.bytes less about 1 KB."
    )
    needs: ClassVar[tuple[str, ...]] = ("confluent_kafka",)
    separator_bytes: ClassVar[int] = 200
    _reader: Reader | None = PrivateAttr(default=None)
    _producer: Any = PrivateAttr(default=None)
    _trouble: list[Any] = PrivateAttr(default_factory=list)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)

    @field_validator("key")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None:
            compile_mapping(value)
        return value

    def encode(self, event: bytes) -> Sequence[bytes]:
        """The event as it is."""
        return (event,)

    def post(self, request: Packed) -> Receipt:
        """Produce the messages and wait until each is told as delivered or failed."""
        producer = self._open()
        outcomes: dict[int, Any] = {}
        for number, item in enumerate(request.items):
            self._produce(producer, number, item, request.id, outcomes)
        # Each message is told of at the latest after timeout_seconds, delivery.timeout.ms.
        while len(outcomes) < len(request.items):
            producer.poll(POLL_SECONDS)
        errors = {number: error for number, error in sorted(outcomes.items()) if error is not None}
        if errors:
            # After a failure an idempotent producer may be of no more use.
            self.close()
        return self._receipt(errors)

    def check(self) -> None:
        """Ask the brokers for the topic."""
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
        """Let the producer go; nothing is on its way when no deliver runs."""
        with self._opening:
            self._producer = None
            self._trouble.clear()

    def _produce(self, producer: Any, number: int, item: bytes, batch_id: str, outcomes: dict[int, Any]) -> None:
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
                outcomes[number] = error.args[0]
                return
            else:
                producer.poll(0)
                return

    def _key_of(self, item: bytes) -> str | None:
        if self.key is None:
            return None
        if self._reader is None:
            self._reader = compile_mapping({"$string": self.key})
        found: str | None = None
        with suppress(Unfit):
            found = self._reader(Event(item))
        return found

    def _receipt(self, errors: dict[int, Any]) -> Receipt:
        refused: dict[int, str] = {}
        later: dict[int, str] = {}
        for number, error in errors.items():
            if error.name() in OF_THE_CONFIGURATION:
                raise self._meaning(error)
            (refused if error.name() in OF_THE_MESSAGE else later)[number] = f"{error.name()}: {error.str()}"
        trouble = [error for error in self._trouble if error.name() in OF_THE_CONFIGURATION]
        if later and trouble:
            raise self._meaning(trouble[-1])
        return Receipt(refused=refused, later=later)

    def _meaning(self, error: Any) -> Blocked | TryLater:
        """What an error that is no single message's means; what brokers said before counts where it only timed out."""
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
                given = {name: value for name, value in settings.items() if value is not None}
                try:
                    self._producer = Producer(given)
                except KafkaException as error:
                    raise Blocked(scrub(f"settings: {error.args[0].str()}", self.secret_values())) from None
            return self._producer
