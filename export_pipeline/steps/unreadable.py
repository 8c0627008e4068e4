"""What becomes of files that cannot be read: set apart where the manifest may change, and given up in the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from export_pipeline.errors import FileError, FileForbidden, FileReplaced, FileUnreachable
from export_pipeline.ledger import attempts, readings
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.planning import manifest_id
from export_pipeline.ledger.readings import Manifest
from export_pipeline.ledger.tables import READ
from export_pipeline.secrets import scrub
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.workspace import Workspace


class OwedGivenUp(FileError):
    """A manifest that others have got cannot be read again, and what was owed of it was given up."""

    next_step = "once the file is back, export-pipeline quarantine retry owes it again"


@dataclass(frozen=True, slots=True)
class Apart:
    """What became of the unreadable files of a manifest.

    Attributes:
        reasons: key → what is wrong.
        given_up: keys of those that lie in the quarantine now.
        rest: the manifest of the other files; None where there is none.
    """

    reasons: dict[str, str]
    given_up: list[str]
    rest: str | None


def set_apart(
    place: Workspace, manifest: Manifest, failures: Mapping[str, FileError], *, began: datetime, run_id: str
) -> Apart:
    """Write down which files could not be read, each from now on alone.

    Args:
        failures: by key.
        began: when the reading did that failed.

    Raises:
        FileError: none could be reached, and no file is to blame; or nothing may be set apart from the manifest any
            more, so that all of it waits, or is given up for those it is still owed to.
    """
    several = len(manifest.files) > 1
    with place.ledger.read() as tx:
        others_read = attempts.others_read(tx, manifest.id, began=began)
        may_change = readings.may_change(tx, manifest.id)
    none_reached = len(failures) == len(manifest.files) and all(map(_is_about_access, failures.values()))
    if several and none_reached and not others_read:
        # Not one file could be reached, of many and since the last time: that is the store or the credentials.
        with place.ledger.write() as tx:
            attempts.note(tx, [manifest.id], began=began)
        raise next(iter(failures.values()))
    reasons = {key: scrub(error.reason, place.secrets) for key, error in failures.items()}
    if not may_change or (manifest.state == READ and not several):
        others_read = others_read or len(failures) < len(manifest.files)
        raise _wait(place, manifest, failures, reasons, began=began, others_read=others_read)
    apart = [file for file in manifest.files if file.key in failures]
    rest = None
    with place.ledger.write(durable=True) as tx:
        if several:
            rest = readings.isolate(tx, manifest, reasons, url=place.source.url, run_id=run_id, now=utc_now())
        else:
            readings.count_failure(tx, manifest.id, reasons[apart[0].key])
        attempts.note(tx, [_alone(place, manifest, file) for file in apart], began=began)
    if several:
        # Of an earlier reading, of which nothing was delivered. Only now: until then the manifest might have stayed.
        place.quarantine.archive_stretches(manifest.id, manifest.day)
    given_up = [
        file.key
        for file in apart
        if _give_up(place, manifest, file, failures[file.key], reasons[file.key], others_read=others_read)
    ]
    return Apart(reasons, given_up, rest)


def _give_up(
    place: Workspace, manifest: Manifest, file: SourceFile, error: FileError, reason: str, *, others_read: bool
) -> bool:
    """Quarantine a file as a whole that no further try can help; returns whether it was."""
    identity = _alone(place, manifest, file)
    with place.ledger.read() as tx:
        tries = readings.manifest(tx, identity).read_attempts
    if not _is_hopeless(place, error, tries, others_read=others_read):
        return False
    place.quarantine.put_file(manifest_id=identity, day=manifest.day, file=file, reason=reason)
    with place.ledger.write(durable=True) as tx:
        readings.give_up(tx, identity, reason)
    return True


def _wait(
    place: Workspace,
    manifest: Manifest,
    failures: Mapping[str, FileError],
    reasons: Mapping[str, str],
    *,
    began: datetime,
    others_read: bool,
) -> FileError:
    """Count the try of a manifest that must not change, or give up what is owed of it; returns what to raise.

    A manifest with failed tries is one of those that come on top of a run's files, so that it holds nothing back.
    """
    key = next(iter(failures))
    with place.ledger.write(durable=True) as tx:
        tries = readings.count_failure(tx, manifest.id, reasons[key])
        attempts.note(tx, [manifest.id], began=began)
        names = attempts.owed_to(tx, manifest.id)
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    reason = f"{reasons[key]}{more}; manifest {manifest.id}, which was read with it before, is not delivered without it"
    if not any(_is_hopeless(place, error, tries, others_read=others_read) for error in failures.values()):
        return FileError(key, f"{reason}; try {tries} of {place.max_attempts}, then what is owed of it is given up")
    end = f"what is owed of manifest {manifest.id} to {', '.join(names) or 'nobody'} is given up"
    if names:
        # First: after a crash in between the same is written once more.
        place.quarantine.put_owed(
            manifest_id=manifest.id,
            day=manifest.day,
            files={file: f"{reasons[file.key]}; {end}" for file in manifest.files if file.key in reasons},
        )
    with place.ledger.write(durable=True) as tx:
        attempts.give_up_owed(tx, manifest.id, reasons[key])
    return OwedGivenUp(key, f"{reason}; {end} after {tries} of {place.max_attempts} tries, and kept in the quarantine")


def _is_hopeless(place: Workspace, error: FileError, tries: int, *, others_read: bool) -> bool:
    """Whether no further try can help: too many tries, or replaced by other content."""
    if isinstance(error, FileReplaced):
        return True
    # Credentials that expired, or a store that is down: no file is given up for that, however long it takes.
    return tries >= place.max_attempts and (others_read or not _is_about_access(error))


def _alone(place: Workspace, manifest: Manifest, file: SourceFile) -> str:
    """The id of a manifest of this one file."""
    return manifest_id(place.source.url, [file], max_events=manifest.max_events, max_bytes=manifest.max_bytes)


def _is_about_access(error: FileError) -> bool:
    return isinstance(error, FileForbidden | FileUnreachable)
