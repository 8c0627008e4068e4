"""Where the events of a batch come from: file, and number in the file."""

from collections.abc import Callable, Sequence

from export_pipeline.batching.record import Origin
from export_pipeline.batching.retried import RetriedFiles
from export_pipeline.ledger import parts
from export_pipeline.ledger.manifests import Manifest
from export_pipeline.ledger.records import LedgerBatch
from export_pipeline.source.file import SourceFile
from export_pipeline.steps.open import Workspace


def origins_of(
    place: Workspace, manifest: Manifest, batches: Sequence[LedgerBatch], n: int
) -> Callable[[int], Origin | None]:
    """Index in batch *n* → where the event comes from in the source; None if that is not known."""
    with place.ledger.read() as tx:
        counts = parts.events_of_files(tx, manifest.id)
    if counts is None:
        # Read by a version that did not count them.
        counts = (sum(batch.events for batch in batches),) if len(manifest.files) == 1 else ()
    before = sum(batch.events for batch in batches if batch.n < n)
    retried = None if manifest.is_of_source else RetriedFiles(place.quarantine.objects)

    def origin(index: int) -> Origin | None:
        number = before + index
        for file, events in zip(manifest.files, counts, strict=False):
            if number < events:
                number = _in_file(manifest, file, number)
                if retried is not None:
                    return retried.origin_of_event(file.key, number, events=events)
                return Origin(file.key, file.etag, event=number)
            number -= events
        return None

    return origin


def _in_file(manifest: Manifest, file: SourceFile, number: int) -> int:
    """The number in its file of event *number* of those that belong to the manifest."""
    for start, stop in manifest.ranges.get(file.key, ()):
        if number < stop - start:
            return start + number
        number -= stop - start
    return number
