"""Read a manifest's files into staged batches: all that the op ``read_batches`` does, in plain Python."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from export_pipeline.batching.cutter import BatchLimits
from export_pipeline.batching.reading import ManifestReading, StagedBatch, read_manifest
from export_pipeline.batching.retried import RetriedFiles
from export_pipeline.errors import FileError, FileForbidden, FileReplaced, FileUnreachable, LedgerError
from export_pipeline.ledger import readings
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.planning import manifest_id
from export_pipeline.ledger.readings import LedgerBatch, Manifest, Reading
from export_pipeline.ledger.tables import GIVEN_UP, READ, SOURCE, SUPERSEDED
from export_pipeline.secrets import scrub
from export_pipeline.source.compression import decompress
from export_pipeline.source.fetch import fetch_in_order
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source
from export_pipeline.steps.progress import Progress
from export_pipeline.steps.retention import bring_back
from export_pipeline.steps.workspace import Workspace

_OTHER_READER_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Staged:
    """A manifest whose batches lie in staging.

    Attributes:
        manifest: the one asked for, or what is left of it without unreadable files.
        batches: its batches, in order; none where its files hold no event.
        reading: the numbers, where it was read just now; None where it lay staged already.
    """

    manifest: Manifest
    batches: tuple[LedgerBatch, ...]
    reading: ManifestReading | None = None


@dataclass(slots=True)
class ReadOutcome:
    """What became of the files of a manifest.

    Attributes:
        staged: what can be delivered; None where no readable file is left.
        unreadable: key → what is wrong, of the files that could not be read this time.
        given_up: those of them that will not be tried again and lie in the quarantine.
        seconds: how long reading took.
    """

    staged: Staged | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)
    seconds: float = 0.0


def ensure_staged(place: Workspace, identity: str, *, run_id: str, progress: Progress | None = None) -> ReadOutcome:
    """See that the batches of a manifest lie staged; read them where they do not.

    A file that cannot be read is set apart and the manifest read again without it, before anything is staged for
    delivery. A manifest of which something was delivered never changes.

    Args:
        progress: told of the manifest's files and their bytes as stored, and of the events found in them.

    Raises:
        FileError: no file could be reached at all, so that none is to blame; or one is missing of a manifest that was
            already delivered in part.
        LedgerError: the ledger contradicts itself, or another process has been reading the manifest for ten minutes.
    """
    outcome = ReadOutcome()
    wanted: str | None = identity
    while wanted is not None:
        with place.ledger.claims.claim(f"read:{wanted}", wait_seconds=_OTHER_READER_SECONDS) as mine:
            if not mine:
                raise LedgerError(
                    f"manifest {wanted}: another process has been reading it for {_OTHER_READER_SECONDS} s"
                )
            wanted = _see_to(place, wanted, outcome, progress or Progress(), run_id=run_id)
    return outcome


def _see_to(place: Workspace, identity: str, outcome: ReadOutcome, progress: Progress, *, run_id: str) -> str | None:
    """Have one manifest staged, and tell *outcome*; or set its unreadable files apart.

    Returns:
        The id of what is left without these, now or since earlier, which is to be seen to next; None: all is done.
    """
    with place.ledger.read() as tx:
        manifest = readings.manifest(tx, identity)
    if manifest.id != identity:
        return manifest.id  # it took this one's place, and may have a reader: its own claim tells
    if manifest.state in (GIVEN_UP, SUPERSEDED):
        return None
    if manifest.is_folded:
        returned = bring_back(place, manifest)
        if returned is None:
            return None
        manifest = returned
    with place.ledger.read() as tx:
        batches = readings.batches(tx, manifest.id)
    if manifest.state == READ and place.staging.holds(manifest.id, len(batches)):
        outcome.staged = Staged(manifest, batches)
        return None
    started = time.monotonic()
    try:
        reading = _stage(place, manifest, progress)
    except FileError as error:
        place.staging.delete(manifest.id)
        # One look at the others, so that many bad files do not mean many readings of the good ones.
        others = [file for file in manifest.files if file.key != error.key]
        failures = {error.key: error, **_failing(place, manifest, others)}
        # In the ledger before what is left is staged: of what it does not know, nothing would ever be swept.
        return _set_apart(place, manifest, failures, outcome, run_id=run_id)
    finally:
        outcome.seconds += time.monotonic() - started
    with place.ledger.write(durable=True) as tx:
        readings.record(tx, manifest, _for_ledger(manifest, reading), now=utc_now())
        outcome.staged = Staged(readings.manifest(tx, manifest.id), readings.batches(tx, manifest.id), reading)
    return None


def _failing(place: Workspace, manifest: Manifest, files: Sequence[SourceFile]) -> dict[str, FileError]:
    """Which of *files* cannot be read, and why. Nothing is kept of them."""
    failures: dict[str, FileError] = {}
    with closing(fetch_in_order(_source(place, manifest), files)) as fetched:
        for file, chunks in fetched:
            try:
                for _ in decompress(chunks, key=file.key, size_bytes=file.size_bytes, limits=place.limits):
                    pass
            except FileError as error:
                failures[error.key] = error
    return failures


def _source(place: Workspace, manifest: Manifest) -> Source:
    """Where the manifest's files lie."""
    return place.source if manifest.origin == SOURCE else RetriedFiles(place.quarantine.objects)


def _stage(place: Workspace, manifest: Manifest, progress: Progress) -> ManifestReading:
    def stage(batch: StagedBatch, parts: Sequence[bytes | memoryview]) -> None:
        place.staging.put(manifest.id, batch.n, *parts)
        progress.advance(events=batch.events)

    # What an earlier, interrupted reading left must not pass for part of this one.
    place.staging.delete(manifest.id)
    progress.begin(files=len(manifest.files), size_bytes=sum(file.size_bytes for file in manifest.files))
    with closing(fetch_in_order(_source(place, manifest), manifest.files)) as fetched:
        reading = read_manifest(
            files=_counted(fetched, progress),
            manifest_id=manifest.id,
            day=manifest.day,
            stage=stage,
            quarantine=place.quarantine,
            batch_limits=BatchLimits(max_events=manifest.max_events, max_bytes=manifest.max_bytes),
            read_limits=place.limits,
        )
    place.staging.flush(manifest.id)
    return reading


def _counted(
    fetched: Iterable[tuple[SourceFile, Iterator[bytes]]], progress: Progress
) -> Iterator[tuple[SourceFile, Iterator[bytes]]]:
    """The same files and bytes, counted as they pass; in the thread that unpacks them, so without a report."""

    def passing(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            progress.count(size_bytes=len(chunk))
            yield chunk

    for file, chunks in fetched:
        yield file, passing(chunks)
        progress.count(files=1)


def _set_apart(
    place: Workspace, manifest: Manifest, failures: Mapping[str, FileError], outcome: ReadOutcome, *, run_id: str
) -> str | None:
    """Write down which files could not be read, each from now on alone; returns the manifest of the others, if any."""
    several = len(manifest.files) > 1
    if several and len(failures) == len(manifest.files) and all(map(_is_about_access, failures.values())):
        # Not one file of many could be reached: that is the store or the credentials, and no file is to blame.
        raise next(iter(failures.values()))
    reasons = {key: scrub(error.reason, place.secrets) for key, error in failures.items()}
    rest = None
    with place.ledger.write(durable=True) as tx:
        if not several:
            readings.count_failure(tx, manifest.id, next(iter(reasons.values())))
        elif readings.may_change(tx, manifest.id):
            rest = readings.isolate(tx, manifest, reasons, url=place.source.url, run_id=run_id, now=utc_now())
        else:
            raise next(iter(failures.values()))
    if several:
        # Of an earlier reading, of which nothing was delivered. Only now: until then the manifest might have stayed.
        place.quarantine.archive_stretches(manifest.id, manifest.day)
    outcome.unreadable |= reasons
    outcome.given_up += _give_up(place, manifest, failures)
    return rest


def _give_up(place: Workspace, manifest: Manifest, failures: Mapping[str, FileError]) -> list[str]:
    """Quarantine as a whole the files that no further try can help: too many tries, or replaced by other content."""
    given_up = []
    for file in manifest.files:
        error = failures.get(file.key)
        if error is None:
            continue
        identity = manifest_id(place.source.url, [file], max_events=manifest.max_events, max_bytes=manifest.max_bytes)
        with place.ledger.read() as tx:
            attempts = readings.manifest(tx, identity).read_attempts
            others_are_read = readings.any_read_since_planned(tx, identity)
        if attempts < place.max_attempts and not isinstance(error, FileReplaced):
            continue
        if _is_about_access(error) and not others_are_read:
            # Credentials that expired, or a store that is down: no file is given up for that, however long it takes.
            continue
        reason = scrub(error.reason, place.secrets)
        place.quarantine.put_file(manifest_id=identity, day=manifest.day, file=file, reason=reason)
        with place.ledger.write(durable=True) as tx:
            readings.give_up(tx, identity, reason)
        given_up.append(file.key)
    return given_up


def _is_about_access(error: FileError) -> bool:
    return isinstance(error, FileForbidden | FileUnreachable)


def _for_ledger(manifest: Manifest, reading: ManifestReading) -> Reading:
    positions = {file.key: position for position, file in enumerate(manifest.files)}
    return Reading(
        batches=tuple(
            LedgerBatch(
                n=batch.n,
                events=batch.events,
                size_bytes=batch.size_bytes,
                crc32=batch.crc32,
                file_positions=tuple(positions[key] for key in batch.files),
            )
            for batch in reading.batches
        ),
        bytes_unpacked=reading.bytes_unpacked,
        events_framed=reading.events_framed,
        events_quarantined=reading.events_quarantined,
    )
