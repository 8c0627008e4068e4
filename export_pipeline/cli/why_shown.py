"""The output of ``why``: the history of a file as labeled lines and a table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from export_pipeline.batching.record import FILE, REFUSED
from export_pipeline.cli import printing
from export_pipeline.cli.why import MOST_RECORDS, Quarantined, Story
from export_pipeline.ledger.quarantined import KEPT
from export_pipeline.printable import printable
from export_pipeline.quantities import counted, sized

if TYPE_CHECKING:
    from rich.text import Text

    from export_pipeline.cli.session import Session
    from export_pipeline.ledger.history import DeliveryLife, FileLife, ManifestLife
    from export_pipeline.ledger.quarantined import Entry

Row = tuple[str, str]


def show(session: "Session", story: Story) -> None:
    """Print the history."""
    rows: list[Row] = [("File", printable(story.key)), ("Source", story.source), ("In source", _there(story))]
    _show_rows(session, rows)
    for life in story.lives:
        session.show("")
        _show_rows(session, _life(life, story.quarantined if life is story.lives[-1] else (), story.entries))
        if life.deliveries:
            headings = ("subscriber", "state", "when", "run", "batches#", "attempts#")
            session.show(
                "",
                printing.table(
                    headings, [_delivery(one, life.manifest) for one in life.deliveries], width=session.width
                ),
            )
        for one in life.deliveries:
            if one.last_error:
                session.show(f"{one.subscriber}: {one.last_error}")
    session.show("")
    answers: list[Row] = []
    for number, answer in enumerate(story.answers):
        answers.append(("" if number else "In short", answer.text))
        answers += [("", answer.advice)] if answer.advice else []
    _show_rows(session, answers)


def _show_rows(session: "Session", rows: Iterable[Row]) -> None:
    session.show(printing.lines((label, session.clean(text)) for label, text in rows))


def _there(story: Story) -> str:
    file = story.there
    if story.source_error is not None:
        return f"unknown: {story.source_error}"
    if file is None:
        is_retry = any(life.manifest and not life.manifest.is_of_source for life in story.lives)
        return "no: it is a retry from the quarantine" if is_retry else "no"
    return f"{sized(file.size_bytes)}, arrived {printing.when(file.last_modified)}, etag {file.etag}"


def _life(life: "FileLife", waiting: Sequence[Quarantined], entries: "Iterable[Entry]") -> Iterator[Row]:
    file = life.file
    yield "Seen", f"{printing.when(life.seen_at)}, a file of {life.day}: {sized(file.size_bytes)}, etag {file.etag}"
    manifest = life.manifest
    if manifest is None:
        yield "Ignored", life.note or ""
        return
    beside = f" with {counted(manifest.files - 1, 'other file')}" if manifest.files > 1 else ""
    yield "Planned", f"{printing.when(manifest.planned_at)} by run {manifest.planned_by_run}"
    yield "Manifest", f"{manifest.id}{beside}, {manifest.state}"
    if manifest.read_at is not None:
        yield "Read", f"{printing.when(manifest.read_at)}: {_held(manifest)}"
    if manifest.last_error:
        tries = f" ({counted(manifest.read_attempts, 'attempt')})" if manifest.read_attempts else ""
        yield "Not read", f"{manifest.last_error}{tries}"
    # A retry has a separate manifest, and what it could not deliver waits under that.
    others = [one for one in entries if one.etag == file.etag and not (waiting and _is_of(one, manifest.id))]
    rows = [*map(_record, waiting[:MOST_RECORDS]), *map(_entry, others[:MOST_RECORDS])]
    for number, row in enumerate(rows):
        yield "" if number else "Quarantined", row
    if len(waiting) > MOST_RECORDS:
        yield "", f"and more: export-pipeline quarantine list --manifest {manifest.id}"
    if len(others) > MOST_RECORDS:
        yield "", f"and {counted(len(others) - MOST_RECORDS, 'other entry', 'other entries')}: add --json"


def _held(manifest: "ManifestLife") -> str:
    of_file = len(manifest.batches_with_file)
    events = f"{counted(manifest.events_batched or 0, 'event')} in {counted(manifest.batches or 0, 'batch', 'batches')}"
    if not of_file:
        return f"{events} in the manifest, none from this file"
    if manifest.files == 1:
        return events
    first, last = manifest.batches_with_file[0], manifest.batches_with_file[-1]
    which = f"batch {manifest.id}-{first}" if of_file == 1 else f"batches {first} to {last}"
    return f"{events} in the manifest; those of this file are in {which}"


def _record(one: Quarantined) -> str:
    if one.kind == FILE:
        return f"the whole file: {one.reason}"
    if one.kind == REFUSED:
        return f"event {one.offset} of batch {one.batch}, refused by {one.subscriber}: {one.reason}"
    return f"{counted(one.length, 'byte')} at offset {one.offset:,}: {one.reason}"


def _is_of(one: "Entry", manifest_id: str) -> bool:
    return one.state == KEPT and one.manifest == manifest_id


def _entry(one: "Entry") -> str:
    what = "the whole file" if one.kind == FILE else counted(one.records, "record")
    if one.changed_at is None:
        return f"{what}, waiting as {one.name} since {printing.when(one.kept_at)}: {one.reason}"
    return f"{what}, {one.state} {printing.when(one.changed_at)} by {one.changed_by}: {one.why} ({one.name})"


def _delivery(one: "DeliveryLife", manifest: "ManifestLife | None") -> "tuple[str | Text, ...]":
    from rich.text import Text

    total = manifest.batches if manifest and manifest.batches is not None else "?"
    if manifest is not None and not manifest.holds_events and one.state.is_delivered:
        return one.subscriber, "nothing to deliver", "-", "-", "-", "-"
    state = f"{one.state}, round {one.round}" if one.round > 1 else one.state
    return (
        one.subscriber,
        Text(state, style="green" if one.state.is_delivered else "yellow"),
        printing.when(one.delivered_at) if one.delivered_at else f"since {printing.when(one.owed_at)}",
        (one.run_id or "-")[:8],
        f"{one.accepted_batches}/{total}",
        f"{one.attempts}",
    )
