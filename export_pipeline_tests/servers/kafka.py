"""The Kafka brokers that librdkafka brings for tests: they speak the protocol over TCP, and fail on demand."""

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, TopicPartition
from typing_extensions import Self

PRODUCE, PRODUCER = 0, 0  # the API key of Produce requests, and RD_KAFKA_PRODUCER


def _library() -> Any:
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(folder.glob("librdkafka*.so*"))))
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_new", pointer, [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [pointer]),
        ("rd_kafka_mock_topic_create", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
        ("rd_kafka_mock_topic_set_error", None, [pointer, ctypes.c_char_p, ctypes.c_int]),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
        ),
        ("rd_kafka_mock_clear_request_errors", None, [pointer, ctypes.c_int16]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KafkaCluster:
    """One broker."""

    def __enter__(self) -> Self:
        self.library = _library()
        error = ctypes.create_string_buffer(512)
        self.handle = self.library.rd_kafka_new(PRODUCER, self.library.rd_kafka_conf_new(), error, 512)
        assert self.handle, error.value
        self.cluster = self.library.rd_kafka_mock_cluster_new(self.handle, 1)
        self.bootstrap: str = self.library.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()
        return self

    def __exit__(self, *exit: Any) -> None:
        self.library.rd_kafka_mock_cluster_destroy(self.cluster)
        self.library.rd_kafka_destroy(self.handle)

    def create(self, topic: str, partitions: int = 3) -> None:
        """Create a topic."""
        assert self.library.rd_kafka_mock_topic_create(self.cluster, topic.encode(), partitions, 1) == 0

    def fail_topic(self, topic: str, code: int) -> None:
        """Answer for this topic with an error of the protocol; 0 ends it."""
        self.library.rd_kafka_mock_topic_set_error(self.cluster, topic.encode(), code)

    def fail_produce(self, *codes: int) -> None:
        """Answer the next produce requests with these errors of the protocol."""
        array = (ctypes.c_int * len(codes))(*codes)
        self.library.rd_kafka_mock_push_request_errors_array(self.cluster, PRODUCE, len(codes), array)

    def clear(self) -> None:
        """Forget the errors that requests were to be answered with."""
        self.library.rd_kafka_mock_clear_request_errors(self.cluster, PRODUCE)

    def set_down(self) -> None:
        """Answer nobody, until :meth:`set_up`."""
        self.library.rd_kafka_mock_broker_set_down(self.cluster, 1)

    def set_up(self) -> None:
        """Answer again."""
        self.library.rd_kafka_mock_broker_set_up(self.cluster, 1)

    def messages(self, topic: str, partitions: int = 3) -> list[Any]:
        """All of the topic, partition by partition, read by a consumer."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        found: list[Any] = []
        ended = 0
        while ended < partitions:
            message = consumer.poll(5)
            assert message is not None, "the mock broker does not answer"
            error = message.error()
            if error is None:
                found.append(message)
            else:
                assert error.name() == "_PARTITION_EOF", error
                ended += 1
        consumer.close()
        return found
