"""The SQS queue in which S3 tells of new objects: messages are taken, and removed once the ledger has their files."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from export_pipeline.errors import ConfigurationError, QueueFailed
from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.secrets import scrub
from export_pipeline.source.settings import NotificationSettings, SourceSettings
from export_pipeline.storage.aws import AwsLogin
from export_pipeline.storage.folders import brief
from export_pipeline.storage.location import parse_location

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client


MESSAGES_A_REQUEST = 10
"""What SQS hands out, and takes back, in one request."""

REQUESTS_AT_ONCE = 8
# Asked without waiting, SQS looks at some of its servers only, and may show an empty queue where there are messages.
_WAIT_SECONDS = 1
_REGION = re.compile(r"\bsqs(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-\d)\.")
_PERMISSIONS = {
    "ReceiveMessage": "sqs:ReceiveMessage",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "DeleteMessage": "sqs:DeleteMessage",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
}
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"})
_MISSING = frozenset({"NonExistentQueue", "QueueDoesNotExist"})
_NOT_AUTHORIZED = "is not authorized to perform"
_KMS_DENIED = frozenset({"KMS.AccessDeniedException", "KmsAccessDenied", "KmsAccessDeniedException"})


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as it was handed out.

    Attributes:
        id: the same each time that the message is handed out.
        handle: what it is removed by; another one each time.
    """

    id: str
    handle: str
    body: str


class Queue(Protocol):
    """Where messages are taken from. Safe to use from one thread."""

    url: str

    def receive(self, most: int) -> tuple[list[Message], bool]:
        """At most *most* messages, and whether there seemed to be no more."""

    def delete(self, messages: Sequence[Message]) -> int:
        """Remove messages; returns how many were not, and will come again."""

    def waiting(self) -> int:
        """How many messages wait, roughly; those that somebody has taken do not count."""

    def has_dead_letters(self) -> bool | None:
        """Whether a message that comes again and again is put aside by the queue itself; None: it does not tell."""


class NotificationQueue:
    """The queue of a source. Nothing is asked of the network before it is used.

    Args:
        settings: of the source, with ``notifications``. Login, retries and time-outs are those of the bucket.
    """

    def __init__(self, settings: SourceSettings) -> None:
        assert settings.notifications is not None  # noqa: S101 (the caller looks)
        self._given: NotificationSettings = settings.notifications
        self._settings = settings
        self._opening = Lock()
        self.url = self._given.queue_url

    def receive(self, most: int) -> tuple[list[Message], bool]:
        """As :meth:`Queue.receive`: one request first, then twice as many at a time while all answer in full."""
        found: list[Message] = []
        at_once = 1
        with self._pool() as pool:
            while len(found) < most:
                answers = list(pool.map(self._receive, _portions(most - len(found), at_once)))
                found += [message for answer in answers for message in answer]
                if not all(answers):
                    return found, True
                at_once = min(2 * at_once, REQUESTS_AT_ONCE)
        return found, False

    def delete(self, messages: Sequence[Message]) -> int:
        """As :meth:`Queue.delete`.

        Raises:
            QueueFailed: none could be removed.
        """
        chunks = [messages[at : at + MESSAGES_A_REQUEST] for at in range(0, len(messages), MESSAGES_A_REQUEST)]
        with self._pool() as pool:
            return sum(pool.map(self._delete, chunks))

    def waiting(self) -> int:
        """As :meth:`Queue.waiting`.

        Raises:
            QueueFailed: it did not tell.
        """
        return int(self.attributes(["ApproximateNumberOfMessages"]).get("ApproximateNumberOfMessages", 0))

    def has_dead_letters(self) -> bool | None:
        """As :meth:`Queue.has_dead_letters`: None where the credentials may not ask."""
        try:
            return "deadLetterTargetArn" in json.loads(self.attributes(["RedrivePolicy"]).get("RedrivePolicy", "{}"))
        except QueueFailed as error:
            if error.permission:
                return None
            raise

    def attributes(self, names: Sequence[str]) -> dict[str, str]:
        """What SQS tells of the queue, name → value; names that have no value are not there.

        Raises:
            QueueFailed: it did not tell.
        """
        answer = self.ask("GetQueueAttributes", lambda sqs: sqs.get_queue_attributes(AttributeNames=list(names)))
        found: dict[str, str] = answer.get("Attributes", {})
        return found

    def ask(self, operation: str, question: Callable[[Any], Any]) -> Any:
        """The answer to *question*, which is asked of the queue.

        Args:
            operation: what SQS calls it.
            question: called with something that has the methods of boto3's client, and knows the queue's URL.

        Raises:
            QueueFailed: with the queue's URL, the cause, and the permission that is missing.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return question(_OfQueue(self._client, self.url))
        except ClientError as error:
            raise self._failed(error, _permission(error, operation), is_missing=_code(error) in _MISSING) from None
        except (BotoCoreError, ValueError) as error:
            raise self._failed(error, "") from None

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            if "_opened" in self.__dict__:
                self.__dict__.pop("_opened").close()

    def _receive(self, most: int) -> list[Message]:
        answer = self.ask(
            "ReceiveMessage",
            lambda sqs: sqs.receive_message(
                MaxNumberOfMessages=most,
                WaitTimeSeconds=_WAIT_SECONDS,
                VisibilityTimeout=self._given.visibility_seconds,
            ),
        )
        return [
            Message(one["MessageId"], one["ReceiptHandle"], one.get("Body", "")) for one in answer.get("Messages", [])
        ]

    def _delete(self, messages: Sequence[Message]) -> int:
        entries = [{"Id": str(n), "ReceiptHandle": message.handle} for n, message in enumerate(messages)]
        answer = self.ask("DeleteMessageBatch", lambda sqs: sqs.delete_message_batch(Entries=entries))
        return len(messages) - len(answer.get("Successful", []))

    def _failed(self, error: Exception, permission: str, *, is_missing: bool = False) -> QueueFailed:
        more = f"; the credentials lack {permission}" if permission else ""
        more += "; allowed: a queue that exists, in the account and region that its URL names" if is_missing else ""
        reason = scrub(brief(error), self._settings.secrets())
        return QueueFailed(
            f"source.notifications: the queue {printable(self.url)} failed: {reason}{more}", permission=permission
        )

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="queue")
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _client(self) -> Any:
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> Any:
        parts = urlsplit(self.url)
        endpoint = self._given.endpoint_url or f"{parts.scheme}://{parts.netloc}"
        region = _REGION.search(parts.netloc)
        login = AwsLogin(parse_location(self._settings.url), self._settings)
        return login.queue_client(endpoint, region[1] if region else None)


class _OfQueue:
    """boto3's client, with every request about one queue."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._client, name)
        return lambda **arguments: method(QueueUrl=self._url, **arguments)


def _permission(error: "ClientError", operation: str) -> str:
    """What is missing where SQS answers so; empty where nothing is."""
    if _full_code(error) in _KMS_DENIED:
        return "kms:Decrypt on the queue's key"
    is_denied = _code(error) in _DENIED or _NOT_AUTHORIZED in str(error)
    return _PERMISSIONS.get(operation, "") if is_denied else ""


def _full_code(error: "ClientError") -> str:
    return error.response.get("Error", {}).get("Code", "").rpartition("#")[2]


def _code(error: "ClientError") -> str:
    """Without what may stand before it: ``AWS.SimpleQueueService.``."""
    return _full_code(error).rpartition(".")[2]


def _portions(most: int, at_once: int) -> Iterable[int]:
    """How many messages to ask for in each of at most *at_once* requests."""
    for begun in range(0, min(most, at_once * MESSAGES_A_REQUEST), MESSAGES_A_REQUEST):
        yield min(MESSAGES_A_REQUEST, most - begun)


_CREATED = "s3:ObjectCreated:"
_ATTRIBUTES = ("QueueArn", "RedrivePolicy", "ApproximateNumberOfMessages")
# A handle that SQS never gives: whoever may not delete is told so first.
_NO_HANDLE = "export-pipeline-check"
_NO_SUCH_HANDLE = ("ReceiptHandleIsInvalid", "InvalidParameterValue")


def check_queue(settings: SourceSettings) -> str:
    """Ask the queue for all that a run asks of it; nothing is removed, and a message looked at is back at once.

    Returns:
        One sentence on what was found.

    Raises:
        QueueFailed: the queue cannot be reached, or a permission is missing: which one.
        ConfigurationError: the bucket sends its notifications elsewhere, or none.
    """
    queue = NotificationQueue(settings)
    try:
        queue.ask("ReceiveMessage", lambda sqs: sqs.receive_message(MaxNumberOfMessages=1, VisibilityTimeout=0))
        _try_to_delete(queue)
        try:
            found = queue.attributes(_ATTRIBUTES)
        except QueueFailed as error:
            if error.permission:
                raise QueueFailed(
                    f"{error}; without it a message that cannot be understood stays in the queue until it expires",
                    permission=error.permission,
                ) from None
            raise
    finally:
        queue.close()
    waiting = counted(int(found.get("ApproximateNumberOfMessages", 0)), "message")
    dead = json.loads(found.get("RedrivePolicy", "{}")).get("deadLetterTargetArn", "")
    aside = f"goes to {dead.rpartition(':')[2]}" if dead else "goes to the quarantine, since the queue has no other"
    return (
        f"{queue.url} gives and removes messages, about {waiting} in it; {_way(settings, found.get('QueueArn', ''))}; "
        f"what cannot be understood {aside}"
    )


def _try_to_delete(queue: NotificationQueue) -> None:
    from botocore.exceptions import ClientError

    def delete(sqs: Any) -> None:
        try:
            sqs.delete_message(ReceiptHandle=_NO_HANDLE)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code.rpartition(".")[2] not in _NO_SUCH_HANDLE:
                raise

    queue.ask("DeleteMessage", delete)


def _way(settings: SourceSettings, arn: str) -> str:
    """By which way the bucket's notifications reach the queue, as far as it may be asked."""
    from botocore.exceptions import BotoCoreError, ClientError

    location = parse_location(settings.url)
    bucket = (settings.notifications.bucket if settings.notifications else None) or location.bucket
    client: S3Client = AwsLogin(location, settings).client
    try:
        found: Any = client.get_bucket_notification_configuration(Bucket=bucket)
    except (ClientError, BotoCoreError) as error:
        return f"whether {bucket} sends to it was not told ({brief(error)})"
    if ours := [one for one in found.get("QueueConfigurations", []) if one["QueueArn"] == arn]:
        return f"{bucket} sends to it{_what(ours, bucket, location.prefix)}"
    others = [one["TopicArn"] for one in found.get("TopicConfigurations", [])]
    if found.get("EventBridgeConfiguration") is not None:
        others.append("EventBridge")
    if others:
        return f"{bucket} sends to {', '.join(others)}, from where a subscription or a rule has to lead to it"
    elsewhere = [one["QueueArn"] for one in found.get("QueueConfigurations", [])]
    raise ConfigurationError(
        f"{bucket} sends no notification to {arn or 'the queue'}: found "
        f"{', '.join(elsewhere) or 'no configuration of notifications'}; docs/notifications.md has the commands"
    )


def _what(configurations: list[Any], bucket: str, prefix: str) -> str:
    """Of which keys below *prefix* the bucket tells this queue, in words; empty: of all."""
    made = [one for one in configurations if any(event.startswith(_CREATED) for event in one["Events"])]
    if not made:
        events = ", ".join(sorted({event for one in configurations for event in one["Events"]}))
        raise ConfigurationError(f"{bucket} tells the queue of no new object: found {events}; allowed: {_CREATED}*")
    beginnings = [_rule(one, "prefix") for one in made]
    if not any(one.startswith(prefix) or prefix.startswith(one) for one in beginnings):
        raise ConfigurationError(
            f"{bucket} tells the queue of nothing below {printable(prefix)}: found keys that begin with "
            f"{', '.join(map(printable, beginnings))}; allowed: a prefix with which source.url begins"
        )
    if any(prefix.startswith(_rule(one, "prefix")) and not _rule(one, "suffix") for one in made):
        return ""
    told = [f"{one}…{_rule(each, 'suffix')}" for each, one in zip(made, beginnings, strict=True)]
    return f", but only of keys such as {', '.join(map(printable, told))}; the others wait for the listing"


def _rule(configuration: Any, name: str) -> str:
    """What keys have to begin or end with; empty: with anything."""
    rules = configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    # AWS gives the names as "Prefix" and "Suffix", whatever was put.
    return next((str(rule["Value"]) for rule in rules if rule["Name"].lower() == name), "")
