"""``export-pipeline check`` of the queue of notifications: each permission, and whether the bucket sends to it."""

import json
from typing import TYPE_CHECKING, Any

from export_pipeline.errors import ConfigurationError, QueueFailed
from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.source.queue import NotificationQueue
from export_pipeline.source.settings import SourceSettings
from export_pipeline.storage.aws import AwsLogin
from export_pipeline.storage.failures import brief
from export_pipeline.storage.location import parse_location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

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
