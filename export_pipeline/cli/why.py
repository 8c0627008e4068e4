"""``export-pipeline why``: the history of one file, or why it was not exported."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from export_pipeline.cli.session import FAILED, JsonOption, LedgerView, Session, as_plain, looking_at_ledger

if TYPE_CHECKING:
    from export_pipeline.cli.outline import Outline
    from export_pipeline.cli.reasons import Reason, Rules
    from export_pipeline.ledger.history import FileLife
    from export_pipeline.ledger.quarantined import Entry
    from export_pipeline.source.file import SourceFile
    from export_pipeline.source.store import Source
    from export_pipeline.storage.location import Location

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The file: its key, with or without the source's prefix, or its URL, ARN or path."
    ),
]
MOST_RECORDS = 10
"""Maximum number of quarantined records that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One record of the quarantine, without its bytes, which ``quarantine show`` prints."""

    object: str
    kind: str
    reason: str
    offset: int
    length: int
    subscriber: str
    batch: str


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is known about one file.

    Attributes:
        source: the URL of the source.
        there: the file as the source lists it now; None if it does not.
        source_error: why the source could not be listed; the ledger's part is reported anyway.
        lives: one for each content ever seen under the key, the latest last.
        quarantined: the first records of its latest content that wait in the quarantine.
        entries: what the ledger counts of all its content in the quarantine, in every state.
        answers: the conclusions, in sentences.
    """

    key: str
    source: str
    there: "SourceFile | None"
    source_error: str | None
    lives: "Sequence[FileLife]"
    quarantined: Sequence[Quarantined]
    entries: "Sequence[Entry]"
    answers: "Sequence[Reason]"


def why(session: Session, key: KeyArgument, json: JsonOption = False) -> int:
    """Show the history of one file, or why it was not exported.

    When and by which run it was seen, planned, read and delivered to each subscriber, and what was quarantined and
    what happened to it. Exits with 1 if there is no such file, otherwise with 0.
    """
    from export_pipeline.cli import why_shown
    from export_pipeline.cli.reasons import keys_meant
    from export_pipeline.storage.location import parse_location

    outline = session.outline()
    location = parse_location(outline.source.url)
    story = _find(outline, location, keys_meant(key, location))
    if json:
        session.show_json(as_plain(story))
    else:
        why_shown.show(session, story)
    return FAILED if story.answers[0].code == "not_in_source" else 0


def _find(outline: "Outline", location: "Location", keys: Sequence[str]) -> Story:
    from export_pipeline.cli.reasons import what_became, why_not_taken, why_not_there
    from export_pipeline.errors import ListingFailed
    from export_pipeline.ledger import history
    from export_pipeline.source.store import open_source

    with looking_at_ledger(outline.ledger_url, location.url) as view:
        rules = _rules(view, outline)
        lives = history.lives(*view.known, keys) if view.known else []
    source = open_source(outline.source)
    try:
        if not lives:
            there = _listed(source, keys)
            lives = _by_fingerprint(outline, location, there) if there else []
        if not lives:
            answer = why_not_taken(there, rules) if there else why_not_there(keys[0], source, location)
            return Story(there.key if there else keys[0], location.url, there, None, (), (), (), (answer,))
        key, there, trouble = lives[-1].file.key, None, None
        try:
            there = _listed(source, [key])
        except ListingFailed as error:
            trouble = str(error)
    finally:
        source.close()
    answers = what_became(lives[-1], there, rules, is_asked=trouble is None)
    entries = _entries(outline, location, key)
    waiting = list(_quarantined(outline, lives[-1], entries))
    return Story(key, location.url, there, trouble, lives, waiting, entries, answers)


def _entries(outline: "Outline", location: "Location", key: str) -> "list[Entry]":
    from export_pipeline.ledger import quarantined

    with looking_at_ledger(outline.ledger_url, location.url) as view:
        return quarantined.entries(*view.known, key=key) if view.known else []


def _by_fingerprint(outline: "Outline", location: "Location", there: "SourceFile") -> "list[FileLife]":
    """The history of a file of a folded day, as far as the ledger has kept it."""
    from export_pipeline.ledger import history

    with looking_at_ledger(outline.ledger_url, location.url) as view:
        found = history.life_by_fingerprint(*view.known, there) if view.known else None
    return [found] if found else []


def _listed(source: "Source", keys: Sequence[str]) -> "SourceFile | None":
    """The first of *keys* that the source lists, as listed."""
    for key in keys:
        found = next(iter(source.list_files(prefix=key, before=key + "\0")), None)
        if found is not None:
            return found
    return None


def _rules(view: LedgerView, outline: "Outline") -> "Rules":
    from export_pipeline.cli.instance import read_cursor, sensor_name
    from export_pipeline.cli.reasons import Rules
    from export_pipeline.ledger import database, sources, subscriptions
    from export_pipeline.ledger.database import utc_now
    from export_pipeline.steps.next_listing import next_listing
    from export_pipeline.storage.location import parse_location

    now = utc_now()
    rules = outline.listing_rules()
    active = subscriptions.active(*view.known) if view.known else ()
    state = sources.listing_state(*view.known) if view.known else sources.ListingState()
    mark = database.source_mark(view.known[0], parse_location(outline.source.url).url) if view.known else ""
    return Rules(
        layout=rules.layout,
        start_date=rules.start_date,
        start_from=outline.start_from,
        subscriptions=active,
        subscribers=len(outline.subscribers),
        begins=lambda cursor: next_listing(rules, state, active, cursor=cursor, mark=mark, now=now),
        cursor=lambda: read_cursor(outline.prefix, mark),
        sensor=lambda: sensor_name(outline.prefix),
        ignores_overwrites=rules.on_overwrite == "ignore",
        more_to_list=view.known is not None and sources.more_to_list(*view.known),
        is_notified=rules.follows_messages,
        enabled=outline.enabled,
        now=now,
    )


def _quarantined(outline: "Outline", life: "FileLife", entries: "Sequence[Entry]") -> Iterator[Quarantined]:
    """The first quarantined records of this file, and of refused events in batches that contain events of it.

    Those that were retried and came back are in entries of other manifests, which the ledger knows.
    """
    from export_pipeline.batching.quarantine import Quarantine, entry_of
    from export_pipeline.batching.record import FILE
    from export_pipeline.ledger.quarantined import KEPT
    from export_pipeline.storage.objects import open_objects

    manifest = life.manifest
    if manifest is None:
        return
    batches = {f"{manifest.id}-{n}" for n in manifest.batches_with_file}
    quarantine = Quarantine(open_objects(outline.quarantine.url, outline.quarantine))
    known = {one.name for one in entries}
    done = {(one.name, one.key) for one in entries} - {(one.name, one.key) for one in entries if one.state == KEPT}
    names = sorted(
        name
        for name in quarantine.objects.list(life.day.isoformat())
        if f"/{manifest.id}." in name or entry_of(name) in known
    )
    records = ((name, record) for name in names for record in quarantine.records_in(name))
    # A process that died may have left objects with records that wait no longer.
    of_file = (
        (name, record)
        for name, record in records
        if (entry_of(name), record.key) not in done
        and (record.batch in batches or (record.key, record.etag) == (life.file.key, life.file.etag))
    )
    for name, record in islice(of_file, MOST_RECORDS + 1):
        length = life.file.size_bytes if record.kind == FILE else record.length
        yield Quarantined(name, record.kind, record.reason, record.offset, length, record.subscriber, record.batch)
