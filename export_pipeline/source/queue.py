"""The SQS queue that receives S3's notifications: receives messages, and deletes them once the ledger has their files.

Also checks that the queue can be used, and that the bucket sends to it (:func:`check_queue`).
"""

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
"""Most messages that SQS returns, or deletes, in one request."""

REQUESTS_AT_ONCE = 8
# Without a wait, SQS asks only some of its servers, and may report an empty queue although there are messages.
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
_CREATED = "s3:ObjectCreated:"
_ATTRIBUTES = ("QueueArn", "RedrivePolicy", "ApproximateNumberOfMessages")
# A handle that SQS never assigns: a missing permission to delete is reported before the handle is checked.
_NO_HANDLE = "export-pipeline-check"
_NO_SUCH_HANDLE = ("ReceiptHandleIsInvalid", "InvalidParameterValue")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as it was received.

    Attributes:
        id: the same each time that the message is received.
        handle: needed to delete it; different each time.
    """

    id: str
    handle: str
    body: str


class Queue(Protocol):
    """Where messages come from. For use by one thread."""

    url: str

    def receive(self, most: int) -> tuple[list[Message], bool]:
        """At most *most* messages, and whether there seem to be no more."""

    def delete(self, messages: Sequence[Message]) -> int:
        """Delete messages; returns how many could not be deleted, and will be received again."""

    def waiting(self) -> int:
        """Approximate number of waiting messages, except those that a consumer has received."""

    def has_dead_letters(self) -> bool | None:
        """Whether the queue has a dead-letter queue for messages received again and again; None: unknown."""


class NotificationQueue:
    """The queue of a source. Makes no request before it is used.

    Args:
        settings: of the source, with ``notifications``. Login, retries and timeouts are those of the bucket.
    """

    def __init__(self, settings: SourceSettings) -> None:
        assert settings.notifications is not None  # noqa: S101 (the caller looks)
        self._given: NotificationSettings = settings.notifications
        self._settings = settings
        self._opening = Lock()
        self.url = self._given.queue_url

    def receive(self, most: int) -> tuple[list[Message], bool]:
        """As :meth:`Queue.receive`: one request first, then twice as many at a time while all responses are full."""
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
            QueueFailed: none could be deleted.
        """
        chunks = [messages[at : at + MESSAGES_A_REQUEST] for at in range(0, len(messages), MESSAGES_A_REQUEST)]
        with self._pool() as pool:
            return sum(pool.map(self._delete, chunks))

    def waiting(self) -> int:
        """As :meth:`Queue.waiting`.

        Raises:
            QueueFailed: the request failed.
        """
        return int(self.attributes(["ApproximateNumberOfMessages"]).get("ApproximateNumberOfMessages", 0))

    def has_dead_letters(self) -> bool | None:
        """As :meth:`Queue.has_dead_letters`: None if the credentials do not allow the request."""
        try:
            return "deadLetterTargetArn" in json.loads(self.attributes(["RedrivePolicy"]).get("RedrivePolicy", "{}"))
        except QueueFailed as error:
            if error.permission:
                return None
            raise

    def attributes(self, names: Sequence[str]) -> dict[str, str]:
        """The queue's attributes, name → value; those without a value are missing.

        Raises:
            QueueFailed: the request failed.
        """
        answer = self.ask("GetQueueAttributes", lambda sqs: sqs.get_queue_attributes(AttributeNames=list(names)))
        found: dict[str, str] = answer.get("Attributes", {})
        return found

    def ask(self, operation: str, question: Callable[[Any], Any]) -> Any:
        """The answer to *question*, a request to the queue.

        Args:
            operation: its name in SQS.
            question: called with an object that has the methods of boto3's client, and supplies the queue's URL.

        Raises:
            QueueFailed: with the queue's URL, the cause, and the missing permission.
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
    """boto3's client, with every request addressed to one queue."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._client, name)
        return lambda **arguments: method(QueueUrl=self._url, **arguments)


def _permission(error: "ClientError", operation: str) -> str:
    """The permission that is missing, according to this error; empty if none is."""
    if _full_code(error) in _KMS_DENIED:
        return "kms:Decrypt on the queue's key"
    is_denied = _code(error) in _DENIED or _NOT_AUTHORIZED in str(error)
    return _PERMISSIONS.get(operation, "") if is_denied else ""


def _full_code(error: "ClientError") -> str:
    return error.response.get("Error", {}).get("Code", "").rpartition("#")[2]


def _code(error: "ClientError") -> str:
    """Without the prefix it may have: ``AWS.SimpleQueueService.``."""
    return _full_code(error).rpartition(".")[2]


def _portions(most: int, at_once: int) -> Iterable[int]:
    """How many messages to ask for in each of at most *at_once* requests."""
    for begun in range(0, min(most, at_once * MESSAGES_A_REQUEST), MESSAGES_A_REQUEST):
        yield min(MESSAGES_A_REQUEST, most - begun)


def check_queue(settings: SourceSettings) -> str:
    """Try everything that a run does with the queue. Nothing is deleted; a received message is visible again at once.

    Returns:
        One sentence about what was found.

    Raises:
        QueueFailed: the queue cannot be reached, or lacks a permission, which is named.
        ConfigurationError: the bucket sends its notifications elsewhere, or sends none.
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
                    f"{error}; without it, a malformed message stays in the queue until it expires",
                    permission=error.permission,
                ) from None
            raise
    finally:
        queue.close()
    waiting = counted(int(found.get("ApproximateNumberOfMessages", 0)), "message")
    dead = json.loads(found.get("RedrivePolicy", "{}")).get("deadLetterTargetArn", "")
    aside = dead.rpartition(":")[2] if dead else "the quarantine, since the queue has no dead-letter queue"
    return (
        f"{queue.url}: messages can be received and deleted, about {waiting} in it; "
        f"{_way(settings, found.get('QueueArn', ''))}; malformed messages go to {aside}"
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
    """How the bucket's notifications reach the queue, as far as the credentials may ask."""
    from botocore.exceptions import BotoCoreError, ClientError

    location = parse_location(settings.url)
    bucket = (settings.notifications.bucket if settings.notifications else None) or location.bucket
    client: S3Client = AwsLogin(location, settings).client
    try:
        found: Any = client.get_bucket_notification_configuration(Bucket=bucket)
    except (ClientError, BotoCoreError) as error:
        return f"could not check whether {bucket} sends to it ({brief(error)})"
    if ours := [one for one in found.get("QueueConfigurations", []) if one["QueueArn"] == arn]:
        return f"{bucket} sends to it{_what(ours, bucket, location.prefix)}"
    others = [one["TopicArn"] for one in found.get("TopicConfigurations", [])]
    if found.get("EventBridgeConfiguration") is not None:
        others.append("EventBridge")
    if others:
        return f"{bucket} sends to {', '.join(others)}, which must forward to it by a subscription or a rule"
    elsewhere = [one["QueueArn"] for one in found.get("QueueConfigurations", [])]
    raise ConfigurationError(
        f"{bucket} sends no notification to {arn or 'the queue'}: found "
        f"{', '.join(elsewhere) or 'no notification configuration'}; docs/notifications.md has the commands"
    )


def _what(configurations: list[Any], bucket: str, prefix: str) -> str:
    """Which keys below *prefix* the bucket notifies this queue of, in words; empty: all of them."""
    made = [one for one in configurations if any(event.startswith(_CREATED) for event in one["Events"])]
    if not made:
        events = ", ".join(sorted({event for one in configurations for event in one["Events"]}))
        raise ConfigurationError(f"{bucket} notifies the queue of no new object: found {events}; allowed: {_CREATED}*")
    beginnings = [_rule(one, "prefix") for one in made]
    if not any(one.startswith(prefix) or prefix.startswith(one) for one in beginnings):
        raise ConfigurationError(
            f"{bucket} notifies the queue of nothing below {printable(prefix)}: found keys that begin with "
            f"{', '.join(map(printable, beginnings))}; allowed: a prefix with which source.url begins"
        )
    if any(prefix.startswith(_rule(one, "prefix")) and not _rule(one, "suffix") for one in made):
        return ""
    told = [f"{one}…{_rule(each, 'suffix')}" for each, one in zip(made, beginnings, strict=True)]
    return f", but only for keys such as {', '.join(map(printable, told))}; other files wait for the next listing"


def _rule(configuration: Any, name: str) -> str:
    """What keys must begin or end with; empty: anything."""
    rules = configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    # AWS returns the names as "Prefix" and "Suffix", whatever was set.
    return next((str(rule["Value"]) for rule in rules if rule["Name"].lower() == name), "")
