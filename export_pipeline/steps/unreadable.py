"""What happens to files that cannot be read: isolated if the manifest may change, and finally given up.

A manifest that some subscriber has received never changes. If a file of it remains unreadable, those it is still owed
to get the readable files as a part of the manifest, and only the unreadable file is given up for them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from export_pipeline.batching.record import FILE, Kept
from export_pipeline.errors import (
    FileError,
    FileFailed,
    FileForbidden,
    FileReplaced,
    FileTooSlow,
    FileUnreachable,
    LedgerError,
)
from export_pipeline.ledger import deliveries, known, manifests, parts, quarantined, unreadable
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.manifests import Manifest, ReadingDiffers, manifest_id_of
from export_pipeline.ledger.quarantined import RESOLVED, Change
from export_pipeline.ledger.records import Run
from export_pipeline.ledger.unreadable import Share
from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.secrets import scrub
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.quarantine import change, forget_replaced

DIVIDED_INTO = 10
"""Into how many manifests one is divided whose reader died: three divisions find one file among a thousand."""


class OwedFileLost(FileError):
    """A file of a manifest that others have received was given up for those it was still owed to."""

    next_step = "once the file is back, export-pipeline quarantine retry owes it again; the readable files stay owed"


@dataclass(frozen=True, slots=True)
class Apart:
    """What happened to the unreadable files of a manifest.

    Attributes:
        reasons: key → what is wrong.
        quarantined: keys of those that are in the quarantine now.
        rest: the manifest of the other files; None if there is none.
        notes: what else happened, one sentence each.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)
    rest: str | None = None
    notes: tuple[str, ...] = ()


def set_apart(
    place: Workspace, manifest: Manifest, failures: Mapping[str, FileError], *, began: datetime, run_id: str
) -> Apart:
    """Record which files could not be read; from now on each is read alone.

    Args:
        failures: by key.
        began: when the failed reading began.

    Raises:
        FileError: no file could be reached, so none of them is the cause; or the manifest must not change any more, so
            that all of it waits, or files of it are given up for those it is still owed to.
    """
    several = len(manifest.files) > 1
    with place.ledger.read() as tx:
        others_read = unreadable.others_read(tx, manifest.id, began=began)
        may_change = deliveries.is_untouched(tx, manifest.id)
    none_reached = len(failures) == len(manifest.files) and all(map(_is_about_access, failures.values()))
    if several and none_reached and not others_read:
        # No file of several could be reached, nor any other since the last attempt: the store or the login failed.
        with place.ledger.write() as tx:
            unreadable.note_attempts(tx, [manifest.id], began=began)
        raise next(iter(failures.values()))
    reasons = {key: scrub(error.reason, place.secrets) for key, error in failures.items()}
    if not may_change or (manifest.state.is_read and not several):
        others_read = others_read or len(failures) < len(manifest.files)
        what = _wait(place, manifest, failures, reasons, began=began, others_read=others_read, run_id=run_id)
        if isinstance(what, Apart):
            return what
        raise what
    apart = [file for file in manifest.files if file.key in failures]
    rest = None
    with _nobody_delivers(place, manifest), place.ledger.write(durable=True) as tx:
        if several:
            rest = unreadable.isolate(tx, manifest, reasons, url=place.source.url, run=Run(run_id, utc_now()))
        else:
            manifests.count_failure(tx, manifest.id, reasons[apart[0].key])
        unreadable.note_attempts(tx, [_alone(place, manifest, file) for file in apart], began=began)
    if several:
        # They are from an earlier reading, of which nothing was delivered. Only now is it certain that it is replaced.
        forget_replaced(place, manifest, run_id=run_id)
    quarantined = [
        file.key
        for file in apart
        if _give_up(
            place, manifest, file, failures[file.key], reasons[file.key], others_read=others_read, run_id=run_id
        )
    ]
    return Apart(reasons, quarantined, rest)


def after_death(place: Workspace, manifest: Manifest, *, run_id: str) -> Apart | None:
    """Handle a reading that ended its process, or was ended with it.

    A run may be killed for many reasons, so a manifest of several files is read again as it is. If that reading dies
    too, it is divided, and no file is counted an attempt. An attempt counts only for a file that was read alone when
    its process died, once others could be read since it was planned. The caller holds the lock for reading, so the
    process that held it before is dead.

    Returns:
        What happened to the manifest; None if it is to be read again.

    Raises:
        FileError: see :func:`set_apart`.
    """
    died = f"run {manifest.reading_run_id} died while it read"
    several = len(manifest.files) > 1
    with place.ledger.read() as tx:
        may_change = deliveries.is_untouched(tx, manifest.id)
    if several and may_change:
        if not manifest.reading_deaths:
            return None
        return divide(place, manifest, f"{died} it", run_id=run_id)
    reason = f"{died} {'this manifest' if several else 'this file alone'}"
    began = utc_now()
    with place.ledger.write(durable=True) as tx:
        # If no run can read anything, as with too little memory for any file, that says nothing about this one.
        counts = unreadable.others_read_since_planned(tx, manifest.id)
        tries = manifests.count_failure(tx, manifest.id, reason) if counts else 0
        unreadable.note_attempts(tx, [manifest.id], began=began)
    if tries < place.max_attempts:
        return None
    file = manifest.files[0]
    error = FileFailed(file.key, f"{reason}, in attempt {tries}")
    if several:
        raise _split(place, manifest, {}, reason, tries=tries, run_id=run_id)
    if not may_change or manifest.state.is_read:
        raise _split(place, manifest, {file.key: error.reason}, reason, tries=tries, run_id=run_id)
    _give_up(place, manifest, file, error, error.reason, others_read=True, run_id=run_id)
    return Apart({file.key: error.reason}, [file.key])


def divide(place: Workspace, manifest: Manifest, why: str, *, run_id: str) -> Apart:
    """Replace a manifest that cannot be read as a whole by several, if it is unknown which file is the cause.

    Later runs read them, and those without the cause are delivered.
    """
    groups = [[one.file for one in group] for group in unreadable.grouped(manifest.part_files, DIVIDED_INTO)]
    with _nobody_delivers(place, manifest), place.ledger.write(durable=True) as tx:
        ids = unreadable.divide(tx, manifest, groups, url=place.source.url, run=Run(run_id, utc_now()))
    place.staging.delete(manifest.id)
    forget_replaced(place, manifest, run_id=run_id)
    files = counted(len(manifest.files), "file")
    note = f"manifest {manifest.id} of {files} was divided into {len(ids)}, which the next runs read separately: {why}"
    return Apart(notes=(note,))


@contextmanager
def _nobody_delivers(place: Workspace, manifest: Manifest) -> Iterator[None]:
    """Inside the block no batch of the manifest is in flight, and none was accepted: it may change.

    Otherwise a batch that another run has just delivered would come again under the id of another manifest.

    Raises:
        LedgerError: another run is delivering it, or has delivered it.
    """
    with ExitStack() as held:
        with place.ledger.read() as tx:
            owed_to = deliveries.owed_to(tx, manifest.id)
        claims = (place.ledger.claims.claim(f"deliver:{manifest.id}:{number}") for number in owed_to)
        is_alone = all(held.enter_context(claim) for claim in claims)
        with place.ledger.read() as tx:
            may_change = deliveries.is_untouched(tx, manifest.id)
        if not (is_alone and may_change):
            raise LedgerError(
                f"manifest {manifest.id} cannot be read completely, and another run is delivering what it has read; "
                "the next run handles the rest"
            )
        yield


def reading_differs(
    place: Workspace, manifest: Manifest, error: ReadingDiffers, *, began: datetime, run_id: str
) -> Exception:
    """Count a second reading that gave another result than the first; returns what to raise.

    After the last attempt, subscribers that have accepted nothing of it get it under the ids of a separate manifest.
    """
    place.staging.delete(manifest.id)
    with place.ledger.write(durable=True) as tx:
        tries = manifests.count_failure(tx, manifest.id, str(error))
        unreadable.note_attempts(tx, [manifest.id], began=began)
    if tries < place.max_attempts:
        return ReadingDiffers(f"{error}; attempt {tries} of {place.max_attempts}")
    return _split(place, manifest, {}, str(error), tries=tries, run_id=run_id, differs=True)


def _give_up(
    place: Workspace,
    manifest: Manifest,
    file: SourceFile,
    error: FileError,
    reason: str,
    *,
    others_read: bool,
    run_id: str,
) -> bool:
    """Quarantine a file as a whole if no further attempt can help; returns whether it was."""
    manifest_id = _alone(place, manifest, file)
    with place.ledger.read() as tx:
        tries = manifests.get(tx, manifest_id).read_attempts
    if not _is_hopeless(place, error, tries, others_read=others_read):
        return False
    kept = place.quarantine.put_file(manifest_id=manifest_id, day=manifest.day, file=file, reason=reason)
    with place.ledger.write(durable=True) as tx:
        unreadable.give_up(tx, manifest_id, reason)
        quarantined.keep(tx, manifest.source_id, kept, day=manifest.day, run_id=run_id, now=utc_now())
    return True


def _wait(
    place: Workspace,
    manifest: Manifest,
    failures: Mapping[str, FileError],
    reasons: Mapping[str, str],
    *,
    began: datetime,
    others_read: bool,
    run_id: str,
) -> FileError | Apart:
    """Count an attempt of a manifest that must not change, or split it for those it is owed to; returns what to raise.

    Nothing is raised if each file that cannot be read was replaced by a newer one that is delivered instead.

    A manifest with failed attempts is read in addition to a run's files, so that it does not hold up others.
    """
    key = next(iter(failures))
    with place.ledger.write(durable=True) as tx:
        tries = manifests.count_failure(tx, manifest.id, reasons[key])
        unreadable.note_attempts(tx, [manifest.id], began=began)
    if any(_is_hopeless(place, error, tries, others_read=others_read) for error in failures.values()):
        newer = _newer(place, manifest, failures)
        lost = _split(place, manifest, reasons, reasons[key], tries=tries, run_id=run_id)
        _resolve(place, manifest, newer, run_id=run_id)
        if newer.keys() != failures.keys():
            return lost
        files = counted(len(newer), "file")
        return Apart(
            notes=(
                f"manifest {manifest.id}: {files} ({', '.join(map(printable, newer))}) replaced in the source since "
                "others received it; newer content is delivered instead, and the other files go on without it",
            )
        )
    return FileError(
        key,
        f"{reasons[key]}{_more(reasons)}; manifest {manifest.id}, which was read with it before, waits for it; attempt "
        f"{tries} of {place.max_attempts}, then it is given up, and the other files are delivered without it",
    )


def _split(
    place: Workspace,
    manifest: Manifest,
    reasons: Mapping[str, str],
    reason: str,
    *,
    tries: int,
    run_id: str,
    differs: bool = False,
) -> OwedFileLost:
    """Split a manifest for those it is still owed to; returns what to raise.

    Args:
        reasons: key → why it cannot be read; empty: it is not known which file is the cause.
        reason: why the manifest cannot be read.
        differs: it can be read, but gives other events than before.
    """
    done, sound = split_for_all(
        place,
        manifest,
        lambda tx, number: unreadable.shares(tx, manifest, reasons.keys(), [number], differs=differs),
        reasons,
        reason=reason,
        groups=1 if reasons or differs else DIVIDED_INTO,
        run_id=run_id,
    )
    return _told(manifest, reasons, reason, done, sound, tries=f"{tries} of {place.max_attempts} attempts")


def split_for_all(
    place: Workspace,
    manifest: Manifest,
    shares: Callable[[Connection, int], list[Share]],
    reasons: Mapping[str, str],
    *,
    reason: str,
    groups: int = 1,
    run_id: str,
) -> tuple[list[Share], list[str]]:
    """Owe each subscriber that a manifest is owed to its share instead, and quarantine what is given up.

    Args:
        shares: returns the share of a subscription.
        reasons, reason, groups: see :func:`unreadable.split`.

    Returns:
        The shares, and the ids of the readable parts.
    """
    done: list[Share] = []
    sound: list[str] = []
    with place.ledger.read() as tx:
        owed_to = deliveries.owed_to(tx, manifest.id)
    for number in owed_to:
        # A run that is delivering it may have read it before; the next attempt counts what it got accepted.
        with place.ledger.claims.claim(f"deliver:{manifest.id}:{number}") as mine:
            if not mine:
                continue
            with place.ledger.read() as tx:
                given = shares(tx, number)
            # First: after a crash in between, the same is written again.
            kept = _keep_lost(place, manifest, given, reasons, reason)
            with place.ledger.write(durable=True) as tx:
                quarantined.keep(tx, manifest.source_id, kept, day=manifest.day, run_id=run_id, now=utc_now())
                sound += unreadable.split(
                    tx, manifest, given, reasons, reason=reason, groups=groups, run=Run(run_id, utc_now())
                )
            done += given
    return done, list(dict.fromkeys(sound))


def _keep_lost(
    place: Workspace, manifest: Manifest, given: Sequence[Share], reasons: Mapping[str, str], reason: str
) -> list[Kept]:
    kept: list[Kept] = []
    names = ", ".join(share.subscriber for share in given)
    for manifest_id, one in unreadable.lost_parts(manifest, given).items():
        why = f"{reasons[one.file.key]}; given up for {names}, which had not received it"
        kept += place.quarantine.put_file(manifest_id=manifest_id, day=manifest.day, file=one.file, reason=why)
    if any(share.is_indivisible for share in given):
        end = f"what is owed of manifest {manifest.id} to {names} is given up"
        lost = [file for file in manifest.files if file.key in reasons] or manifest.files
        lost = lost or [SourceFile("", "", 0, utc_now())]  # of a folded manifest, whose files no longer have names
        files = {file: f"{reasons.get(file.key, reason)}; {end}" for file in lost}
        kept += place.quarantine.put_owed(manifest_id=manifest.id, day=manifest.day, files=files)
    return kept


def _newer(place: Workspace, manifest: Manifest, failures: Mapping[str, FileError]) -> dict[str, str]:
    """Key → etag of the newer file in its place, which the ledger has planned or read, of files that were replaced."""
    if not manifest.is_of_source:
        return {}
    newer: dict[str, str] = {}
    for key, error in failures.items():
        there = place.source.find_file(key) if isinstance(error, FileReplaced) else None
        if there is None:
            continue
        with place.ledger.read() as tx:
            holder = known.of_keys(tx, manifest.source_id, {key: manifest.day}).manifest_of(there, manifest.day)
            is_taken = holder is not None and not manifests.get(tx, holder).state.is_closed
        if is_taken and holder != manifest.id:
            newer[key] = there.etag
    return newer


def _resolve(place: Workspace, manifest: Manifest, newer: Mapping[str, str], *, run_id: str) -> None:
    """Let what was just given up wait no longer, where a newer file is in its place."""
    with place.ledger.read() as tx:
        found = [one for one in quarantined.of_older_files(tx, manifest.source_id, newer) if one.kind == FILE]
    if found:
        why = "a newer file with this key is delivered instead"
        change(place, manifest.source_id, found, Change(RESOLVED, f"run {run_id}", why, utc_now()))


def _told(
    manifest: Manifest,
    reasons: Mapping[str, str],
    reason: str,
    done: Sequence[Share],
    sound: Sequence[str],
    *,
    tries: str,
) -> OwedFileLost:
    key = next(iter(reasons), manifest.files[0].key)
    said = [f"{reason}{_more(reasons)}"]
    lost = [share.subscriber for share in done if share.lost]
    if lost:
        said.append(f"given up for {', '.join(lost)} after {tries}, and kept in the quarantine")
    going_on = [share.subscriber for share in done if share.sound]
    if going_on:
        ids = counted(len(sound), "manifest")
        what = "other files" if reasons else "files"
        said.append(
            f"the {what} of manifest {manifest.id} stay owed to {', '.join(going_on)}, as {ids}: {', '.join(sound)}"
        )
    indivisible = [share.subscriber for share in done if share.is_indivisible]
    if indivisible:
        names = ", ".join(indivisible)
        said.append(
            f"what is owed of manifest {manifest.id} to {names} is given up after {tries}, and kept in the quarantine"
        )
    if not done:
        said.append(f"manifest {manifest.id} is not owed to any subscriber, or another run is delivering it")
    return OwedFileLost(key, "; ".join(said))


def _more(reasons: Mapping[str, str]) -> str:
    others = [printable(key) for key in reasons][1:]
    some = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    return f" (and {len(others)} more: {some})" if others else ""


def _is_hopeless(place: Workspace, error: FileError, tries: int, *, others_read: bool) -> bool:
    """Whether no further attempt can help: too many attempts, or replaced by other content."""
    if isinstance(error, FileReplaced):
        return True
    # Expired credentials, or a store that is down: no file is given up for that, however long it takes.
    return tries >= place.max_attempts and (others_read or not _is_about_access(error))


def _alone(place: Workspace, manifest: Manifest, file: SourceFile) -> str:
    """The id of a manifest of this one file."""
    if len(manifest.files) == 1:
        return manifest.id
    if manifest.part_of is not None:
        (one,) = (member for member in manifest.part_files if member.file == file)
        return parts.part_id(manifest.part_of, [one])
    return manifest_id_of(place.source.url, [file], max_events=manifest.max_events, max_bytes=manifest.max_bytes)


def _is_about_access(error: FileError) -> bool:
    """Whether any file might fail the same way: the store is down or slow, or the credentials lack a permission."""
    return isinstance(error, FileForbidden | FileUnreachable | FileTooSlow)
