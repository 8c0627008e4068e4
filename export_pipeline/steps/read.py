"""Read a manifest's files into staged batches: all that the op ``read_batches`` does, in plain Python."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from export_pipeline.batching.cutter import BatchLimits
from export_pipeline.batching.line_hashes import LineHashes
from export_pipeline.batching.reading import ManifestReading, StagedBatch, read_manifest, text_of
from export_pipeline.batching.record import Kept
from export_pipeline.batching.retried import RetriedFiles
from export_pipeline.errors import AccountingError, FileError, FileTooSlow, LedgerError
from export_pipeline.ledger import deliveries, manifests, quarantined
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.manifests import Manifest, ReadingDiffers
from export_pipeline.ledger.quarantined import Entry
from export_pipeline.ledger.records import LedgerBatch, ReadingResult
from export_pipeline.secrets import scrub
from export_pipeline.source.blame import blaming
from export_pipeline.source.checker import Checker
from export_pipeline.source.fetch import fetch_in_order
from export_pipeline.source.file import ReadLimits, SourceFile
from export_pipeline.source.framing import Framer
from export_pipeline.source.store import Source
from export_pipeline.steps.changed import CHANGED, lines_name
from export_pipeline.steps.open import Workspace
from export_pipeline.steps.progress import Progress
from export_pipeline.steps.quarantine import keep, kept_of_older, move_objects, replaced_by_newer
from export_pipeline.steps.retention import bring_back
from export_pipeline.steps.retry import finish_retry
from export_pipeline.steps.unreadable import Apart, after_death, divide, reading_differs, set_apart

_OTHER_READER_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Staged:
    """A manifest whose batches are in staging.

    Attributes:
        manifest: the requested one, or what is left of it without unreadable files.
        batches: its batches, in order; empty if its files contain no events.
        reading: the counts, if it was read just now; None if it was already staged.
    """

    manifest: Manifest
    batches: tuple[LedgerBatch, ...]
    reading: ManifestReading | None = None


@dataclass(slots=True)
class ReadOutcome:
    """The result of reading a manifest's files.

    Attributes:
        staged: what can be delivered; None if no readable file is left.
        unreadable: key → reason, for the files that could not be read this time.
        quarantined: those of them that are in the quarantine and are not retried.
        notes: what else happened, one sentence each.
        seconds: how long reading took.
        resolved: how many records of older files no longer wait in the quarantine.
    """

    staged: Staged | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    resolved: int = 0

    @property
    def has_changed_quarantine(self) -> bool:
        """Whether something came into the quarantine, or waits there no longer."""
        kept = self.staged is not None and self.staged.reading is not None and bool(self.staged.reading.kept)
        return kept or bool(self.quarantined or self.resolved)

    def take(self, apart: Apart) -> str | None:
        """Add what happened to a manifest's files; returns the id of what is left of it, to be staged next."""
        self.unreadable |= apart.reasons
        self.quarantined += apart.quarantined
        self.notes += apart.notes
        return apart.rest


def ensure_staged(place: Workspace, manifest_id: str, *, run_id: str, progress: Progress | None = None) -> ReadOutcome:
    """Ensure that the batches of a manifest are staged: read its files if they are not.

    A file that cannot be read is isolated and the manifest read again without it, before anything is staged for
    delivery. A manifest of which something was delivered never changes. Each reading is recorded before it begins, so
    that the next one knows if it ended its process.

    Args:
        progress: begins with the manifest's files and their bytes as stored, and counts the events found in them.

    Raises:
        FileError: no file at all could be reached, so none of them is the cause; or a file is unreadable in a manifest
            that must not change, so that all of it waits, or the file was given up for those it was still owed to.
        LedgerError: the ledger contradicts itself, or another process has been reading the manifest for ten minutes.
    """
    outcome = ReadOutcome()
    wanted: str | None = manifest_id
    # What is left after isolating a file that was too slow waits for the next run.
    while wanted is not None and (wanted == manifest_id or not place.stop()):
        with place.ledger.claims.claim(f"read:{wanted}", wait_seconds=_OTHER_READER_SECONDS) as mine:
            if not mine:
                raise LedgerError(
                    f"manifest {wanted}: another process has been reading it for {_OTHER_READER_SECONDS} s"
                )
            with _failures_noted(place, wanted):
                wanted = _see_to(place, wanted, outcome, progress or Progress(), run_id=run_id)
    return outcome


@contextmanager
def _failures_noted(place: Workspace, manifest_id: str) -> Iterator[None]:
    """Record a failure that no file caused in the ledger, or the sensor would start run after run.

    Also records that the reading is over, however it ended; the record is missing only if the process died.
    """
    try:
        yield
    except Exception as error:
        reason = error.reason if isinstance(error, FileError) else str(error) or type(error).__name__
        with place.ledger.write() as tx:
            manifests.note_failure(tx, manifest_id, scrub(reason, place.secrets))
        raise
    except BaseException:
        # The run was terminated: that does not count against the files.
        with suppress(Exception), place.ledger.write() as tx:
            manifests.end_reading(tx, manifest_id)
        raise


def _see_to(place: Workspace, manifest_id: str, outcome: ReadOutcome, progress: Progress, *, run_id: str) -> str | None:
    """Stage one manifest and fill in *outcome*, or isolate its unreadable files.

    Returns:
        The id of what is left without these files, now or since an earlier run, to be staged next; None: done.
    """
    with place.ledger.read() as tx:
        manifest = manifests.get(tx, manifest_id)
    if manifest.id != manifest_id:
        return manifest.id  # it replaced this one; another process may be reading it, so its lock is needed
    if manifest.state.is_closed:
        return None
    if manifest.reading_run_id is not None and (apart := after_death(place, manifest, run_id=run_id)) is not None:
        return outcome.take(apart)
    if manifest.needs_files:
        manifest = bring_back(place, manifest, run_id=run_id)
    with place.ledger.read() as tx:
        batches = manifests.batches(tx, manifest.id)
    if manifest.state.is_read and place.staging.holds(manifest.id, len(batches)):
        outcome.staged = Staged(manifest, batches)
        return None
    if not manifest.is_of_source or len(manifest.files) == 1:
        finish_retry(place, manifest)
    started = time.monotonic()
    try:
        return _read(place, manifest, outcome, progress, run_id=run_id)
    finally:
        outcome.seconds += time.monotonic() - started


def _read(place: Workspace, manifest: Manifest, outcome: ReadOutcome, progress: Progress, *, run_id: str) -> str | None:
    """Like :func:`_see_to`, for a manifest that has to be read."""
    began = utc_now()
    limits = manifest.read_limits or place.limits
    with place.ledger.write() as tx:
        manifests.begin_reading(tx, manifest.id, run_id)
    try:
        reading = _stage(place, manifest, limits, progress)
    except FileError as error:
        place.staging.delete(manifest.id)
        # Check all others at once, so that many bad files do not mean many readings of the good ones.
        others = [file for file in manifest.files if file.key != error.key]
        failures = {error.key: error, **_failing(place, manifest, limits, others)}
        # Recorded before what is left is staged: staged batches that the ledger does not know are never swept.
        return outcome.take(set_apart(place, manifest, failures, began=began, run_id=run_id))
    except AccountingError as error:
        with place.ledger.read() as tx:
            may_change = len(manifest.files) > 1 and deliveries.is_untouched(tx, manifest.id)
        if not may_change:
            raise
        return outcome.take(divide(place, manifest, str(error), run_id=run_id))
    older: list[Kept | Entry] = []
    to, by_lines = replaced_by_newer(run_id), place.on_overwrite == CHANGED
    if not manifest.state.is_read:
        with place.ledger.read() as tx:
            older += kept_of_older(tx, manifest, by_lines=by_lines)
    try:
        with place.ledger.write(durable=True) as tx:
            manifests.record_reading(tx, manifest, _for_ledger(manifest, reading, limits), now=utc_now())
            if not manifest.state.is_read:
                quarantined.move(tx, manifest.source_id, older, to)
                older += keep(tx, manifest, reading.kept, to, run_id=run_id, by_lines=by_lines)
            outcome.staged = Staged(manifests.get(tx, manifest.id), manifests.batches(tx, manifest.id), reading)
    except ReadingDiffers as error:
        outcome.staged = None
        raise reading_differs(place, manifest, error, began=began, run_id=run_id) from None
    # After the ledger, as everywhere: what a crash leaves here is moved by the next retry or dismissal.
    move_objects(place, older, to)
    outcome.resolved += sum(one.records for one in older)
    return None


def _failing(
    place: Workspace, manifest: Manifest, limits: ReadLimits, files: Sequence[SourceFile]
) -> dict[str, FileError]:
    """Which of *files* cannot be read, and why. Keeps none of their content."""
    failures: dict[str, FileError] = {}
    checkpoint = _checkpoint(place)
    with closing(fetch_in_order(_source(place, manifest), files)) as fetched:
        for file, chunks in fetched:
            framer = Framer(limits, Checker(limits), checkpoint=partial(checkpoint, file.key))
            try:
                with blaming(file.key):
                    of_quarantine = not manifest.is_of_source
                    for piece in text_of(file, chunks, limits, checkpoint, is_stored_as_text=of_quarantine):
                        framer.feed(piece)
                    framer.finish()
            except FileTooSlow:
                break
            except FileError as error:
                failures[error.key] = error
    return failures


def _source(place: Workspace, manifest: Manifest) -> Source:
    """The source or the quarantine, depending on where the manifest's files are."""
    return place.source if manifest.is_of_source else RetriedFiles(place.quarantine.objects)


def _stage(place: Workspace, manifest: Manifest, limits: ReadLimits, progress: Progress) -> ManifestReading:
    # What an earlier, interrupted reading left must not be taken for part of this one.
    place.staging.delete(manifest.id)
    progress.begin(files=len(manifest.files), size_bytes=sum(file.size_bytes for file in manifest.files))
    # Of a manifest that was read before, they were kept then.
    compares = place.on_overwrite == CHANGED and manifest.is_of_source and manifest.part_of is None
    keeps_lines = compares and not manifest.state.is_read
    with ExitStack() as opened:
        lines = opened.enter_context(closing(LineHashes())) if keeps_lines else None

        def stage(batch: StagedBatch, parts: Sequence[bytes | memoryview]) -> None:
            place.staging.put(manifest.id, batch.n, *parts)
            if lines is not None:
                lines.add(parts)
            progress.advance(events=batch.events)

        fetched = opened.enter_context(closing(fetch_in_order(_source(place, manifest), manifest.files)))
        reading = read_manifest(
            files=_counted(fetched, progress),
            manifest_id=manifest.id,
            day=manifest.day,
            stage=stage,
            # The malformed records of a part were quarantined when the whole was read; and once quarantined, they may
            # have been retried or dismissed since.
            quarantine=place.quarantine if manifest.part_of is None and not manifest.state.is_read else None,
            batch_limits=BatchLimits(max_events=manifest.max_events, max_bytes=manifest.max_bytes),
            read_limits=limits,
            ranges=manifest.ranges,
            is_stored_as_text=not manifest.is_of_source,
            checkpoint=_checkpoint(place),
        )
        if lines is not None:
            lines.keep(place.quarantine.objects, lines_name(manifest))
    place.staging.flush(manifest.id)
    return reading


def _checkpoint(place: Workspace) -> Callable[[str], None]:
    """Ends a reading that begins now if it is still running when the run's time is over and it has had its share.

    So a run ends however long a file takes, and a file that needs less than its share is read however late in a run.

    Raises:
        FileTooSlow: this file was being read.
    """
    began = time.monotonic()

    def check(key: str) -> None:
        took = time.monotonic() - began
        if took >= place.reading_seconds and (reason := place.stop()):
            raise FileTooSlow(key, f"it was still being read, its manifest for {took:.0f} s, when {reason}")

    return check


def _counted(
    fetched: Iterable[tuple[SourceFile, Iterator[bytes]]], progress: Progress
) -> Iterator[tuple[SourceFile, Iterator[bytes]]]:
    """The same files and bytes, counted as they pass; in the thread that decompresses them, so without a report."""

    def passing(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            progress.count(size_bytes=len(chunk))
            yield chunk

    for file, chunks in fetched:
        yield file, passing(chunks)
        progress.count(files=1)


def _for_ledger(manifest: Manifest, reading: ManifestReading, limits: ReadLimits) -> ReadingResult:
    positions = {file.key: position for position, file in enumerate(manifest.files)}
    return ReadingResult(
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
        events_of_files=tuple(file.events - file.left_out for file in reading.files),
        limits=limits,
    )
