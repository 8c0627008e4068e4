"""``source.on_overwrite: changed``: of a file that was overwritten, deliver only lines that the older one had not.

Who received the older version gets the new lines of the newer one as a part of its manifest, under separate ids. Who
did not, such as a new subscriber, gets the newer one as a whole. Lines are compared by the hashes that were kept when
each version was read; without them the newer file is delivered as a whole, with a warning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice

from sqlalchemy import Connection

from export_pipeline.batching.cutter import BatchLimits
from export_pipeline.batching.line_hashes import hashes_in, hashes_of, new_among
from export_pipeline.batching.quarantine import RETRIED_FOLDER
from export_pipeline.batching.reading import read_manifest
from export_pipeline.batching.record import STRETCH, ObjectStore
from export_pipeline.errors import ObjectMissing
from export_pipeline.ledger import overwrites, parts, quarantined, unreadable
from export_pipeline.ledger.database import utc_now
from export_pipeline.ledger.deliveries import Delivery
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.overwrites import Older
from export_pipeline.ledger.records import PartFile, Ranges, Run, Subscription
from export_pipeline.ledger.unreadable import Share
from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.open import Workspace

CHANGED = "changed"


def lines_name(manifest: Manifest) -> str:
    """The name of the hashes of a manifest's events."""
    return f"{manifest.day.isoformat()}/{manifest.id}"


@dataclass(frozen=True, slots=True)
class Reduced:
    """What a subscriber gets of a manifest with a file that was overwritten.

    Attributes:
        reason: why it does not get the manifest now, as a sentence; empty: it gets all of it.
        warnings: why a file could not be compared.
    """

    reason: str = ""
    warnings: tuple[str, ...] = ()


def reduce_to_changed(
    place: Workspace, manifest: Manifest, delivery: Delivery | None, subscription: Subscription, *, run_id: str
) -> Reduced:
    """Owe a subscriber only the new lines of overwritten files, if it received the older ones.

    The caller holds the claim of delivering the manifest to it. What was begun, or is requested again, is delivered
    as it was.
    """
    is_whole = manifest.is_of_source and manifest.part_of is None
    is_begun = delivery is None or bool(delivery.accepted_batches) or delivery.is_repeated
    if place.on_overwrite != CHANGED or not is_whole or is_begun:
        return Reduced()
    with place.ledger.read() as tx:
        older = overwrites.older_files(tx, manifest, subscription.id)
    if not older:
        return Reduced()
    if waiting := [one for versions in older.values() for one in versions if one.is_owed]:
        return Reduced(f"it waits for the older version of {printable(waiting[0].key)}, which is still owed")
    received = {key: [one for one in versions if one.is_received] for key, versions in older.items()}
    if not any(received.values()):
        return Reduced()
    left: list[PartFile] = []
    told, warnings = [], []
    for file in manifest.files:
        if not received.get(file.key):
            left.append(PartFile(file))
            continue
        try:
            ranges, events = _new_lines(place, manifest, file, received[file.key])
        except ObjectMissing:
            left.append(PartFile(file))
            warnings.append(
                f"{printable(file.key)} was overwritten, and is delivered to {subscription.name} as a whole: its lines "
                "cannot be compared, since the older version was read before on_overwrite was changed"
            )
            continue
        new = sum(stop - start for start, stop in ranges)
        told.append(f"{new:,} of {counted(events, 'event')} of {printable(file.key)} are new")
        if new == events:
            left.append(PartFile(file))
        elif ranges:
            left.append(PartFile(file, ranges))
    if left == [PartFile(file) for file in manifest.files]:
        return Reduced(warnings=tuple(warnings))
    share = Share(subscription.id, subscription.name, sound=tuple(left), lost=())
    with place.ledger.write(durable=True) as tx:
        ids = unreadable.split(tx, manifest, [share], {}, reason="", run=Run(run_id, utc_now()))
    goes_on = f"the next run delivers them as manifest {', '.join(ids)}" if ids else "there is nothing to deliver"
    reason = f"overwritten since it received the older version: {'; '.join(told)}; {goes_on}"
    return Reduced(reason, tuple(warnings))


def _new_lines(place: Workspace, manifest: Manifest, file: SourceFile, received: Sequence[Older]) -> tuple[Ranges, int]:
    """The events of *file* that are in no older version that was received, and how many it has.

    A version whose lines are unknown, since it was read before they were kept, is passed over: each later one was
    compared with it, or was delivered as a whole.

    Args:
        received: the older versions, in the order in which they were seen; at least one.

    Raises:
        ObjectMissing: the lines of *file*, or of the last version that was received, are unknown.
    """
    objects = place.quarantine.objects
    with place.ledger.read() as tx:
        first, stop = _span(tx, manifest, file)
        olds = [(lines_name(one.manifest), *_span(tx, one.manifest, one.file)) for one in received]
    known = [(one, span) for one, span in zip(received, olds, strict=True) if _are_known(objects, *span)]
    if stop < 0 or (received[-1], olds[-1]) not in known:
        raise ObjectMissing(f"{file.key}: the events of its versions were not counted")
    older = [chain(hashes_of(objects, *span), _of_retried(place, one)) for one, span in known]
    found = new_among(hashes_of(objects, lines_name(manifest), first, stop), older)
    return tuple(found), stop - first


def _of_retried(place: Workspace, version: Older) -> Iterator[bytes]:
    """The hashes of the events that retries made of a version's malformed records: who received it gets them, too."""
    manifest, file = version.manifest, version.file
    with place.ledger.read() as tx:
        retried = quarantined.entries(tx, manifest.source_id, states=[quarantined.RETRIED], key=file.key)
    records = (
        record
        for entry in dict.fromkeys(one.name for one in retried if one.kind == STRETCH and one.etag == file.etag)
        for name in place.quarantine.names_of(entry, RETRIED_FOLDER)
        for record in place.quarantine.records_in(name)
    )
    of_version = [one for one in records if (one.kind, one.key, one.etag) == (STRETCH, file.key, file.etag)]
    found: list[bytes] = []
    read_manifest(
        # Each as a file, as a retry reads them.
        files=[(file._replace(key=f"{n}"), iter([record.data])) for n, record in enumerate(of_version)],
        manifest_id=manifest.id,
        day=manifest.day,
        stage=lambda _, parts: found.extend(hashes_in(parts)),
        quarantine=None,
        batch_limits=BatchLimits(max_events=manifest.max_events, max_bytes=manifest.max_bytes),
        read_limits=place.limits,
        is_stored_as_text=True,
    )
    yield from found


def _are_known(objects: ObjectStore, name: str, first: int, stop: int) -> bool:
    """Whether the hashes of these events were kept."""
    try:
        return stop >= 0 and len(list(islice(hashes_of(objects, name, first, stop), 1))) == min(1, stop - first)
    except ObjectMissing:
        return False


def _span(tx: Connection, manifest: Manifest, file: SourceFile) -> tuple[int, int]:
    """Which events of a manifest are those of *file*: the first, and the one after the last; -1: not known."""
    counts = parts.events_of_files(tx, manifest.id)
    if counts is None:
        return 0, -1
    at = manifest.files.index(file)
    ends = [0, *accumulate(counts)]
    return ends[at], ends[at + 1]
