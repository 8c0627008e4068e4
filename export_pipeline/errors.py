"""Every error of this package, arranged by what happens next.

ExportError
├── ConfigurationError        the deployment file is wrong: mend it, nothing was started
├── LedgerError               the ledger contradicts itself or this version: a person must look
│   └── LedgerMissing         there is none yet: the first run makes it
├── StoreError                staging, quarantine or another folder of objects could not be written or read
│   └── ObjectMissing         there is no object of that name
├── StagingLost               a staged batch is missing or not what was written: its manifest is read again
├── AccountingError           a manifest's bytes or events do not add up: a defect of this package, nothing is sent
├── AlertNotSent              an alert did not reach anybody: it is kept, and sent again at the sensor's next tick
├── ListingFailed             the source could not be listed: the run fails, the next one lists again
├── QueueFailed               the queue of notifications did not answer well: the run fails, messages stay in the queue
├── FileError                 one file cannot be read: it is isolated, tried alone later, then quarantined
│   ├── FileGone              it was listed and is there no longer
│   ├── FileReplaced          its etag is not the listed one: the new object is a file of its own
│   ├── FileForbidden         the credentials do not reach it
│   ├── FileUnreachable       the store did not answer well, however often it was asked
│   ├── FileArchived          it lies in cold storage, and has to be restored before anybody can read it
│   ├── FileCorrupt           truncated, wrong checksum, or not the compression its first bytes announce
│   ├── FileOverLimit         it would unpack to more than the limits allow
│   ├── FileFailed            reading it raised what no rule foresees, or ended the process that read it
│   └── FileTooSlow           it was still being read when the run's time was over: tried alone, with a whole run's time
└── DeliveryError             a subscriber did not accept a batch
    ├── TryLater              nothing is wrong with the batch: the same one is sent again, later
    ├── Blocked               no batch can get through until a person acts: all data stays owed
    └── Refused               these events can never be accepted: they are quarantined, the rest goes on
"""

from collections.abc import Mapping
from typing import ClassVar

from export_pipeline.printable import printable


class ExportError(Exception):
    """Anything this package raises on purpose."""

    next_step: ClassVar[str] = "the next run tries again; what was not delivered stays owed"
    """What happens next, for whoever finds the error on the page of a run."""


class ConfigurationError(ExportError):
    """The deployment file, or what it names, is wrong. The message says where, what was found, what is allowed."""

    next_step = "a person must mend what is named; what was not delivered stays owed"


class LedgerError(ExportError):
    """The ledger does not add up, or was written by a newer version."""

    next_step = "a person must look; what was not delivered stays owed"


class LedgerMissing(LedgerError):
    """There is no ledger yet."""


class StoreError(ExportError):
    """A store of objects failed, retries included. The message says which object and why, without secrets."""


class ObjectMissing(StoreError):
    """There is no object of that name."""


class StagingLost(ExportError):
    """A staged batch is missing, or its bytes are not those that were written."""


class AccountingError(ExportError):
    """What was found in a manifest is not what was kept of it."""

    next_step = "this is a defect of the program, please report it; nothing of the manifest was sent, and it stays owed"


class AlertNotSent(ExportError):
    """The place where alerts go did not take one. The message says why, without the address."""


class ListingFailed(ExportError):
    """The source could not be listed."""

    next_step = "the next run lists again from where this one began; nothing is lost"


class QueueFailed(ExportError):
    """The queue of notifications could not be read, or messages not be removed from it.

    Args:
        permission: what the credentials lack (``sqs:ReceiveMessage``); empty: that is not the cause.
    """

    next_step = "the next run asks the queue again; messages stay in it, and what was planned stays owed"

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
    """The file was listed and is there no longer."""


class FileReplaced(FileError):
    """The object under this key is not the one that was listed (its etag differs)."""


class FileForbidden(FileError):
    """The store refused access to this file."""


class FileUnreachable(FileError):
    """The store failed to answer, retries included."""


class FileArchived(FileError):
    """The store keeps the file in an archive: it answers, and hands out no byte before the file is restored."""


class FileCorrupt(FileError):
    """The bytes are truncated, fail their checksum, or contradict their own format."""


class FileOverLimit(FileError):
    """Unpacking the file would exceed a configured limit."""


class FileFailed(FileError):
    """Reading the file raised an error of a kind that no rule foresees, or ended the process that read it."""


class FileTooSlow(FileError):
    """The run's time was over while the file was read, and it had its share of that."""


class DeliveryError(ExportError):
    """A subscriber did not accept a batch.

    Args:
        reason: what the destination said, without secrets.
        status: how the destination calls its answer: an HTTP status, or a code of its own; None: there was no answer.
        answer: the first 500 bytes of the answer's body, without secrets.

    Attributes:
        batch_id: of the batch that was not accepted, once it is known.
    """

    next_step = "the next run tries the same batches again, under the same ids"

    def __init__(self, reason: str = "", *, status: int | str | None = None, answer: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.answer = answer
        self.batch_id = ""


class TryLater(DeliveryError):
    """The batch may be accepted when the same one is sent again: timeouts, 408, 425, 429, 5xx.

    Args:
        retry_after_seconds: what the destination asked for, if it did.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        retry_after_seconds: float | None = None,
        status: int | str | None = None,
        answer: str = "",
    ) -> None:
        super().__init__(reason, status=status, answer=answer)
        self.retry_after_seconds = retry_after_seconds


class Blocked(DeliveryError):
    """No batch can be accepted until a person acts: 401, 403, 404, 410, wrong configuration."""

    next_step = "a person must act; nothing is lost, all data stays owed"


class Refused(DeliveryError):
    """Some events can never be accepted. Nothing of the batch was taken.

    Args:
        events: index in the batch → reason, where the destination told which events it refuses;
            without it the batch is bisected until the refused events are found.
        suspected: the trouble of the destination's own that may be behind it, the same text for the same trouble:
            where it is behind every refusal and nothing is accepted, no event is at fault. Empty: none is known.
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
