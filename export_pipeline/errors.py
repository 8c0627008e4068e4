"""Every error of this package, arranged by what happens next.

ExportError
├── ConfigurationError        the deployment file is invalid: fix it; nothing was started
├── LedgerError               the ledger is inconsistent, or of another version: someone has to look at it
│   └── LedgerMissing         there is no ledger yet: the first run creates it
├── StoreError                staging, quarantine or another object store could not be read or written
│   └── ObjectMissing         there is no object with that name
├── StagingLost               a staged batch is missing or was modified: its manifest is read again
├── AccountingError           a manifest's bytes or events do not add up: a defect of this package, nothing is sent
├── AlertNotSent              an alert could not be sent: it is kept, and retried at the sensor's next tick
├── MetricsNotPushed          the collector of OpenTelemetry did not accept metrics: the next run pushes newer ones
├── ListingFailed             the source could not be listed: the run fails, the next one lists again
├── QueueFailed               the notification queue returned an error: the run fails, messages stay in the queue
├── FileError                 one file cannot be read: it is isolated, retried alone in later runs, then quarantined
│   ├── FileGone              it was listed, and no longer exists
│   ├── FileReplaced          its etag differs from the listed one: the new object is a separate file
│   ├── FileForbidden         the credentials do not permit reading it
│   ├── FileUnreachable       the store failed, retries included
│   ├── FileArchived          it is in cold storage, and must be restored before it can be read
│   ├── FileCorrupt           truncated, wrong checksum, or not the compression that its magic bytes indicate
│   ├── FileOverLimit         it would decompress to more than the limits allow
│   ├── FileFailed            reading it raised an unexpected error, or crashed the process that read it
│   └── FileTooSlow           the run's time ended while it was read: it is retried alone, with a whole run's time
└── DeliveryError             a subscriber did not accept a batch
    ├── TryLater              nothing is wrong with the batch: it is retried later, unchanged
    ├── Blocked               no batch can be delivered until someone acts: all data stays owed
    └── Refused               these events can never be accepted: they are quarantined, the rest is delivered
"""

from collections.abc import Mapping
from typing import ClassVar

from export_pipeline.printable import printable


class ExportError(Exception):
    """Base class of every error that this package raises deliberately."""

    next_step: ClassVar[str] = "the next run retries; what was not delivered stays owed"
    """What happens next; shown with the error on the run's page."""


class ConfigurationError(ExportError):
    """The deployment file is invalid. The message says where, what was found, and what is allowed."""

    next_step = "fix what the message names; what was not delivered stays owed"


class LedgerError(ExportError):
    """The ledger is inconsistent, or was written by a newer version."""

    next_step = "someone has to look at the ledger; what was not delivered stays owed"


class LedgerMissing(LedgerError):
    """There is no ledger yet."""


class StoreError(ExportError):
    """An object store failed, retries included. The message says which object and why, without secrets."""


class ObjectMissing(StoreError):
    """There is no object with that name."""


class StagingLost(ExportError):
    """A staged batch is missing, or its bytes differ from those that were written."""


class AccountingError(ExportError):
    """The bytes or events read from a manifest differ from those batched and quarantined."""

    next_step = "this is a bug in this program, please report it; nothing of the manifest was sent, and it stays owed"


class AlertNotSent(ExportError):
    """An alert could not be sent. The message says why, without the address."""


class MetricsNotPushed(ExportError):
    """An OpenTelemetry collector did not accept metrics. The message says why, without secrets."""

    next_step = "nothing else is affected; the next run pushes the metrics as they are then"


class ListingFailed(ExportError):
    """The source could not be listed."""

    next_step = "the next run lists again from where this one started; nothing is lost"


class QueueFailed(ExportError):
    """The notification queue could not be read, or messages could not be deleted from it.

    Args:
        permission: what the credentials lack (``sqs:ReceiveMessage``); empty if that is not the cause.
    """

    next_step = "the next run reads the queue again; messages stay in it, and what was planned stays owed"

    def __init__(self, reason: str, *, permission: str = "") -> None:
        super().__init__(reason)
        self.permission = permission


class FileError(ExportError):
    """One file of the source cannot be read as it was listed."""

    next_step = "the next run reads the file again; nothing is lost, and what was not delivered stays owed"

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{printable(key)}: {reason}")
        self.key = key
        self.reason = reason


class FileGone(FileError):
    """The file was listed, and no longer exists."""


class FileReplaced(FileError):
    """The object under this key is not the one that was listed (its etag differs)."""


class FileForbidden(FileError):
    """The store refused access to this file."""


class FileUnreachable(FileError):
    """The store failed, retries included."""


class FileArchived(FileError):
    """The file is in an archive tier of the store, and cannot be read before it is restored."""


class FileCorrupt(FileError):
    """The bytes are truncated, fail their checksum, or contradict their own format."""


class FileOverLimit(FileError):
    """Decompressing the file would exceed a configured limit."""


class FileFailed(FileError):
    """Reading the file raised an unexpected error, or crashed the process that read it."""


class FileTooSlow(FileError):
    """The run's time budget ended while the file was read, and the file had used its share of it."""


class DeliveryError(ExportError):
    """A subscriber did not accept a batch.

    Args:
        reason: what the destination answered, without secrets.
        status: an HTTP status, or the destination's own code; None if there was no answer.
        answer: the first 500 bytes of the response body, without secrets.

    Attributes:
        batch_id: id of the batch that was not accepted, once known.
    """

    next_step = "the next run retries the same batches, under the same ids"

    def __init__(self, reason: str = "", *, status: int | str | None = None, answer: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.answer = answer
        self.batch_id = ""


class TryLater(DeliveryError):
    """The batch may be accepted if it is retried unchanged: timeouts, 408, 425, 429, 5xx.

    Args:
        retry_after_seconds: the wait that the destination asked for; None if it did not.
        may_have_arrived: the destination may have the batch, although no response says so.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        retry_after_seconds: float | None = None,
        may_have_arrived: bool = False,
        status: int | str | None = None,
        answer: str = "",
    ) -> None:
        super().__init__(reason, status=status, answer=answer)
        self.retry_after_seconds = retry_after_seconds
        self.may_have_arrived = may_have_arrived


class Blocked(DeliveryError):
    """No batch can be accepted until someone acts: 401, 403, 404, 410, invalid configuration."""

    next_step = "fix the cause; nothing is lost, all data stays owed"


class Refused(DeliveryError):
    """Some events can never be accepted. Nothing of the batch was accepted.

    Args:
        events: index in the batch → reason, if the destination says which events it refuses;
            otherwise the batch is bisected until the refused events are found.
        suspected: a problem of the destination itself that may be the cause, in the same words for the same problem:
            if it is behind every refusal and nothing is accepted, no event is at fault. Empty if none is known.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        events: Mapping[int, str] | None = None,
        status: int | str | None = None,
        answer: str = "",
        suspected: str = "",
    ) -> None:
        super().__init__(reason, status=status, answer=answer)
        self.events = dict(events) if events else None
        self.suspected = suspected
