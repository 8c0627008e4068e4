"""``export-pipeline quarantine``: list, show, retry, dismiss and export what could not be delivered."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export_pipeline.cli.session import JsonOption, Session, looking_at_ledger
from export_pipeline.errors import ConfigurationError
from export_pipeline.printable import printable
from export_pipeline.quantities import counted, sized

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from export_pipeline.batching.quarantine import Quarantine
    from export_pipeline.batching.record import Record
    from export_pipeline.ledger.quarantined import Entry

DayOption = Annotated[str | None, typer.Option(metavar="DATE", help="Only this day, YYYY-MM-DD.", show_default=False)]
ManifestOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Only this manifest; `why` shows the manifest of a file.", show_default=False),
]
StateOption = Annotated[
    str, typer.Option(metavar="STATE", help="Only this state: kept (waiting), retried, dismissed, resolved, or all.")
]
ForeignOption = Annotated[
    bool,
    typer.Option(
        "--foreign",
        help="Instead, list the entries in the same folder that are not in this ledger: those of other deployments, or "
        "of a ledger that was lost.",
    ),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `quarantine list` shows it.")]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `quarantine list` shows them.")]
BytesOption = Annotated[
    bool, typer.Option("--bytes", help="Write only the raw bytes, with a line feed after each record.")
]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Maximum number of records to show.")]
AllOption = Annotated[bool, typer.Option("--all", help="All entries, instead of IDs or a day.")]
WhyOption = Annotated[
    str, typer.Option("--why", metavar="TEXT", help="The reason, which is kept with the records.", show_default=False)
]
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who decides; by default the user's name.", show_default=False),
]

_SHOWN_CHARACTERS = 2_000


def list_quarantine(
    session: Session,
    *,
    day: DayOption = None,
    manifest: ManifestOption = None,
    state: StateOption = "kept",
    foreign: ForeignOption = False,
    json: JsonOption = False,
) -> None:
    """List the contents of the quarantine.

    One line for each manifest, and for each batch of which a subscriber refused events, with the first record's reason.
    """
    from export_pipeline.cli import printing

    if foreign:
        rows = _foreign(session, day)
    else:
        with _entries(session, day=day, manifest=manifest, state=state) as (_, entries):
            rows = _summaries(entries)
    if json:
        session.show_json(rows)
        return
    if not rows:
        session.show("nothing waits in the quarantine" if state == "kept" and not foreign else "no entry found")
        return
    is_mixed = state != "kept" and not foreign
    headings = ("id", "records#", *(("state",) if is_mixed else ()), "what", "reason")
    cells = [
        (
            row["id"],
            f"{row['records']:,}",
            *((session.clean(_state(row)),) if is_mixed else ()),
            row["what"],
            session.clean(row["reason"]),
        )
        for row in rows
    ]
    session.show(printing.table(headings, cells, long=headings[-2:], width=session.width))


def show_quarantined(
    session: Session,
    identity: IdArgument,
    *,
    as_bytes: BytesOption = False,
    limit: LimitOption = 20,
    json: JsonOption = False,
) -> None:
    """Show the records under one ID, their bytes, and what happened to them."""
    from dataclasses import asdict

    quarantine = _open(session)
    records = islice(_records(quarantine, [_entry(identity)]), limit)
    first = next(records, None)
    if first is None:
        raise _not_there(identity)
    shown = (first, *records)
    if as_bytes:
        _write_bytes(shown)
    elif json:
        session.show_json([asdict(record) for record in shown])
    else:
        for number, record in enumerate(shown):
            _show(session, record, is_first=number == 0)


def retry_quarantine(
    session: Session, identities: IdsArgument = None, *, day: DayOption = None, everything: AllOption = False
) -> None:
    """Retry quarantined records.

    Use it after you have fixed the cause. Malformed records and refused events become new manifests, and files that
    were given up are retried from the first attempt. The next run reads and delivers them; what fails again returns to
    the quarantine, where it still says which file it came from.
    """
    from export_pipeline.steps.open import open_workspace
    from export_pipeline.steps.quarantine import this_person, waiting_names
    from export_pipeline.steps.retry import retried_by, retry_quarantined

    with open_workspace(session.deployment()) as place:
        names = waiting_names(place, identities or (), day=day, everything=everything)
        done = retry_quarantined(place, names, run=retried_by(this_person()))
    for sentence in done.sentences():
        session.show(sentence)


def dismiss_quarantine(
    session: Session,
    identities: IdsArgument = None,
    *,
    why: WhyOption,
    by: ByOption = None,
    day: DayOption = None,
    everything: AllOption = False,
) -> None:
    """Dismiss quarantined records: no one will deliver them, and they no longer need attention.

    The records stay in the quarantine under dismissed/, with who dismissed them, when and why. A file that was given
    up and dismissed no longer makes `status` fail.
    """
    from export_pipeline.steps.open import open_workspace
    from export_pipeline.steps.quarantine import dismiss, this_person, waiting_names

    if not why.strip():
        raise ConfigurationError("--why: found an empty text; allowed: the reason, in words")
    with open_workspace(session.deployment()) as place:
        names = waiting_names(place, identities or (), day=day, everything=everything)
        dismissed = dismiss(place, names, by=by or this_person(), why=why)
    session.show(f"dismissed {counted(dismissed, 'record')}" if dismissed else "nothing to dismiss")


def export_quarantine(
    session: Session,
    identities: IdsArgument = None,
    *,
    day: DayOption = None,
    everything: AllOption = False,
    state: StateOption = "kept",
    as_bytes: BytesOption = False,
) -> None:
    """Write quarantined records to standard output, as one JSON object per line.

    Nothing changes in the quarantine. Each line says what it is, from which file and offset, why it is here, what
    happened to it, and has the bytes in base64.
    """
    from dataclasses import asdict
    from json import dumps

    if sum(map(bool, (identities, day, everything))) != 1:
        raise ConfigurationError("allowed: exactly one of IDs, --day DATE and --all")
    wanted = [_entry(identity) for identity in identities or ()]
    with _entries(session, day=day, state=state) as (quarantine, entries):
        known = {one.name: one.state for one in entries}
        names = wanted or list(known)
        for name in names:
            if name not in known:
                raise _not_there(name)
        keys = {(one.name, one.key, one.state) for one in entries}
        for name in dict.fromkeys(names):
            some = [record for record in _records(quarantine, [name]) if (name, record.key, _state_of(record)) in keys]
            if as_bytes:
                _write_bytes(some)
            for record in () if as_bytes else some:
                print(dumps(asdict(record), ensure_ascii=True))


def _write_bytes(records: Iterable["Record"]) -> None:
    for record in records:
        sys.stdout.buffer.write(record.data + b"\n")
    sys.stdout.buffer.flush()


@contextmanager
def _entries(
    session: Session, *, day: str | None = None, manifest: str | None = None, state: str = "kept"
) -> "Iterator[tuple[Quarantine, list[Entry]]]":
    """The quarantine, and the entries of the deployment, those of earlier versions included; nothing is changed."""
    from export_pipeline.ledger import quarantined
    from export_pipeline.ledger.quarantined import STATES
    from export_pipeline.steps.quarantine import parsed_day
    from export_pipeline.storage.location import parse_location

    if state not in (*STATES, "all"):
        raise ConfigurationError(f"--state: found {state!r}; allowed: {', '.join(STATES)}, all")
    of_day = parsed_day(day)
    quarantine = _open(session)
    outline = session.outline()
    with looking_at_ledger(outline.ledger_url, parse_location(outline.source.url).url) as view:
        if view.known is None:
            yield quarantine, []
            return
        tx, source_id = view.known
        states = STATES if state == "all" else (state,)
        found = quarantined.entries(tx, source_id, states=states, day=of_day, manifest=manifest)
        if state in ("kept", "all"):
            found += _earlier(quarantine, tx, source_id, day, manifest)
        yield quarantine, sorted(found, key=lambda one: (one.day, one.name, one.key, one.state))


def _earlier(
    quarantine: "Quarantine", tx: "Connection", source_id: int, day: str | None, manifest: str | None
) -> "list[Entry]":
    from export_pipeline.steps.quarantine import entry_as_kept, unrecorded

    found = unrecorded(quarantine, tx, source_id, day)
    entries = [one for name, records in found.items() for one in entry_as_kept(quarantine, name, records)]
    return [one for one in entries if manifest in (None, one.manifest)]


def _foreign(session: Session, day: str | None) -> list[dict[str, Any]]:
    """Entries in the folder that are not of this ledger and source."""
    from export_pipeline.batching.quarantine import entry_of, is_waiting
    from export_pipeline.steps.quarantine import entry_as_kept

    with _entries(session, day=day, state="all") as (quarantine, entries):
        ours = {one.name for one in entries}
    records: dict[str, list[Record]] = {}
    for name in sorted(quarantine.objects.list(day or "")):
        if is_waiting(name) and entry_of(name) not in ours:
            records.setdefault(entry_of(name), []).extend(quarantine.records_in(name))
    return _summaries([one for name, some in records.items() for one in entry_as_kept(quarantine, name, some)])


def _open(session: Session) -> "Quarantine":
    from export_pipeline.batching.quarantine import Quarantine
    from export_pipeline.storage.objects import open_objects

    settings = session.outline().quarantine
    return Quarantine(open_objects(settings.url, settings, private=True))


def _entry(identity: str) -> str:
    """The entry that *identity*, as a user gives it, means: ``<day>/<manifest>…``."""
    from export_pipeline.batching.quarantine import entry_of
    from export_pipeline.steps.quarantine import parsed_day

    day, _, name = identity.partition("/")
    try:
        parsed_day(day)
    except ConfigurationError:
        raise _not_there(identity) from None
    if not name or "/" in name:
        raise _not_there(identity)
    return entry_of(identity)


def _records(quarantine: "Quarantine", entries: Sequence[str]) -> "Iterator[Record]":
    """The records of some entries: those that wait, then those that no longer do."""
    from export_pipeline.batching.quarantine import DISMISSED_FOLDER, RESOLVED_FOLDER, RETRIED_FOLDER, entry_of

    for entry in entries:
        for folder in ("", RETRIED_FOLDER, DISMISSED_FOLDER, RESOLVED_FOLDER):
            below = f"{folder}/" if folder else ""
            for name in sorted(quarantine.objects.list(f"{below}{entry.partition('/')[0]}")):
                if entry_of(name) == f"{below}{entry}":
                    yield from quarantine.records_in(name)


def _state_of(record: "Record") -> str:
    return record.life[-1]["state"] if record.life else "kept"


def _not_there(identity: str) -> ConfigurationError:
    return ConfigurationError(f"{identity} is not in the quarantine; `export-pipeline quarantine list` shows what is")


def _summaries(entries: "Iterable[Entry]") -> list[dict[str, Any]]:
    """One row for each entry and state."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for one in entries:
        groups.setdefault((one.name, one.state), []).append(one)
    return [_summary(name, state, of_files) for (name, state), of_files in groups.items()]


def _summary(name: str, state: str, of_files: "Sequence[Entry]") -> dict[str, Any]:
    from export_pipeline.batching.record import FILE, REFUSED

    first = of_files[0]
    files = f"{first.key}" if len(of_files) == 1 else f"{len(of_files)} files, such as {first.key}"
    if first.kind == FILE:
        what = f"the file {first.key}" if len(of_files) == 1 else files
    elif first.kind == REFUSED:
        what = f"refused by {first.subscriber}" + (f", from {files}" if first.key else "")
    else:
        what = f"from {files}"
    return {
        "id": name,
        "state": state,
        "kind": first.kind,
        "records": sum(one.records for one in of_files),
        "what": what,
        "reason": first.reason,
        "size_bytes": sum(one.size_bytes for one in of_files),
        "subscriber": first.subscriber,
        "kept_at": first.kept_at.isoformat(),
        "changed_at": first.changed_at.isoformat() if first.changed_at else None,
        "changed_by": first.changed_by,
        "why": first.why,
    }


def _state(row: dict[str, Any]) -> str:
    return f"{row['state']} by {row['changed_by']}: {row['why']}" if row["changed_by"] else str(row["state"])


def _show(session: Session, record: "Record", *, is_first: bool) -> None:
    from export_pipeline.batching.record import FILE, REFUSED
    from export_pipeline.cli import printing

    rows = [("Reason", record.reason)]
    if record.kind == REFUSED:
        rows.append(("Refused by", f"{record.subscriber}: event {record.offset} of batch {record.batch}"))
        if record.key:
            number = "" if record.event is None else f", event {record.event:,} (from 0)"
            rows.append(("File", f"{printable(record.key)}, etag {record.etag}{number}"))
    elif record.kind == FILE:
        rows.append(("File", f"{printable(record.key)}, {sized(record.length)} as stored, etag {record.etag}"))
    else:
        rows.append(("File", f"{printable(record.key)}, etag {record.etag}"))
        rows.append(("Where", f"{counted(record.length, 'byte')} at offset {record.offset:,} of the decompressed file"))
    rows.append(("Manifest", record.manifest))
    if record.retries:
        rows.append(("Retried", f"{counted(record.retries, 'time')} before it came back"))
    rows += [("Since then", f"{one['state']} at {one['at']} by {one['by']}: {one['why']}") for one in record.life]
    if record.kind != FILE:
        shown = record.text if record.text is not None else repr(record.data)
        cut = f" … ({sized(record.length)} in all; --bytes writes them)" if len(shown) > _SHOWN_CHARACTERS else ""
        rows.append(("Text" if record.text is not None else "Bytes", shown[:_SHOWN_CHARACTERS] + cut))
    if not is_first:
        session.show("")
    session.show(printing.lines((label, session.clean(text)) for label, text in rows))
