"""``export-pipeline quarantine``: list, show and retry what could not be delivered."""

import sys
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export_pipeline.cli.session import JsonOption, Session
from export_pipeline.errors import ConfigurationError
from export_pipeline.printable import printable
from export_pipeline.quantities import counted, sized

if TYPE_CHECKING:
    from export_pipeline.batching.quarantine import Quarantine, Record

DayOption = Annotated[str | None, typer.Option(metavar="DATE", help="Only this day, YYYY-MM-DD.", show_default=False)]
ManifestOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Only this manifest; `why` shows the manifest of a file.", show_default=False),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `quarantine list` shows it.")]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `quarantine list` shows them.")]
BytesOption = Annotated[
    bool, typer.Option("--bytes", help="Write only the raw bytes, with a line feed after each record.")
]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Maximum number of records to show.")]
AllOption = Annotated[bool, typer.Option("--all", help="Everything in the quarantine.")]

_ENDING = ".ndjson"
_SHOWN_CHARACTERS = 2_000


def list_quarantine(
    session: Session, *, day: DayOption = None, manifest: ManifestOption = None, json: JsonOption = False
) -> None:
    """List the contents of the quarantine.

    One line for each manifest, and for each batch of which a subscriber refused events, with the first record's reason.
    """
    from export_pipeline.cli import printing

    quarantine = _open(session)
    rows = [_summary(name, list(quarantine.records_in(name))) for name in _names(quarantine, day, manifest)]
    if json:
        session.show_json(rows)
        return
    if not rows:
        session.show("the quarantine is empty")
        return
    headings = ("id", "records#", "what", "reason")
    cells = [(row["id"], f"{row['records']:,}", row["what"], session.clean(row["reason"])) for row in rows]
    session.show(printing.table(headings, cells, long=headings[2:], width=session.width))


def show_quarantined(
    session: Session,
    identity: IdArgument,
    *,
    as_bytes: BytesOption = False,
    limit: LimitOption = 20,
    json: JsonOption = False,
) -> None:
    """Show the records under one ID, and their bytes."""
    from dataclasses import asdict

    quarantine = _open(session)
    records = islice(quarantine.records_in(_checked(quarantine, identity)), limit)
    if as_bytes:
        for record in records:
            sys.stdout.buffer.write(record.data + b"\n")
        sys.stdout.buffer.flush()
    elif json:
        session.show_json([asdict(record) for record in records])
    else:
        for number, record in enumerate(records):
            _show(session, record, is_first=number == 0)


def retry_quarantine(
    session: Session, identities: IdsArgument = None, *, day: DayOption = None, everything: AllOption = False
) -> None:
    """Retry quarantined records.

    Use it after you have fixed the cause. Malformed records and refused events become new manifests, and files that
    were given up are retried from the first attempt. The next run reads and delivers them; what fails again returns to
    the quarantine.
    """
    from uuid import uuid4

    from export_pipeline.ledger.database import utc_now
    from export_pipeline.ledger.records import Run
    from export_pipeline.steps.open import open_workspace
    from export_pipeline.steps.retry import retry_quarantined

    if sum(map(bool, (identities, day, everything))) != 1:
        raise ConfigurationError("allowed: exactly one of IDs, --day DATE and --all")
    with open_workspace(session.deployment()) as place:
        names = [_checked(place.quarantine, one) for one in identities or ()] or list(
            _names(place.quarantine, day, None)
        )
        done = retry_quarantined(place, names, run=Run(f"retry-{uuid4()}", utc_now()))
    told = [
        counted(number, one, many)
        for number, one, many in (
            (done.stretches, "malformed record", "malformed records"),
            (done.refused, "refused event", "refused events"),
            (len(done.files), "file", "files"),
        )
        if number
    ]
    if told:
        session.show(f"the next run retries {', '.join(told)}; start it now: export-pipeline run")
    else:
        session.show("nothing to retry")
    if done.of_others:
        session.show(
            f"skipped {counted(done.of_others, 'entry', 'entries')} of another deployment (another ledger or source)"
        )
    if done.under_way:
        session.show(
            f"{counted(done.under_way, 'entry', 'entries')} of files or batches that no run has finished stay as they "
            "are; once one has, retry what is left"
        )
    if done.cut_off:
        session.show(
            f"skipped {counted(done.cut_off, 'malformed record')} that exceeded the size limit and were kept truncated"
        )


def _open(session: Session) -> "Quarantine":
    from export_pipeline.batching.quarantine import Quarantine
    from export_pipeline.storage.objects import open_objects

    settings = session.outline().quarantine
    return Quarantine(open_objects(settings.url, settings, private=True))


def _names(quarantine: "Quarantine", day: str | None, manifest_id: str | None) -> Iterator[str]:
    """Names of the objects in the quarantine, sorted by day first."""
    from export_pipeline.batching.quarantine import RETRIED_FOLDER, RETRIES_FOLDER

    if day is not None:
        try:
            date.fromisoformat(day)
        except ValueError:
            raise ConfigurationError(f"--day: found {day!r}; allowed: a date, YYYY-MM-DD") from None
    for name in sorted(quarantine.objects.list(day or "")):
        is_waiting = name.endswith(_ENDING) and name.partition("/")[0] not in (RETRIES_FOLDER, RETRIED_FOLDER)
        if is_waiting and (manifest_id is None or f"/{manifest_id}." in name):
            yield name


def _checked(quarantine: "Quarantine", identity: str) -> str:
    """The name of the object that *identity* means."""
    name = identity if identity.endswith(_ENDING) else identity + _ENDING
    if name not in set(_names(quarantine, None, None)):
        raise ConfigurationError(
            f"{identity} is not in the quarantine; `export-pipeline quarantine list` shows what is"
        )
    return name


def _summary(name: str, records: "Sequence[Record]") -> dict[str, Any]:
    from export_pipeline.batching.quarantine import FILE, REFUSED

    first = records[0]
    if first.kind == FILE:
        what = f"the file {first.key}" if len(records) == 1 else f"{len(records)} files, such as {first.key}"
    elif first.kind == REFUSED:
        what = f"refused by {first.subscriber}"
    else:
        keys = {record.key for record in records}
        what = f"of {first.key}" if len(keys) == 1 else f"of {len(keys)} files, such as {first.key}"
    return {
        "id": name.removesuffix(_ENDING),
        "kind": first.kind,
        "records": len(records),
        "what": what,
        "reason": first.reason,
        "size_bytes": sum(record.length for record in records),
        "subscriber": first.subscriber,
    }


def _show(session: Session, record: "Record", *, is_first: bool) -> None:
    from export_pipeline.batching.quarantine import FILE, REFUSED
    from export_pipeline.cli import printing

    rows = [("Reason", record.reason)]
    if record.kind == REFUSED:
        rows.append(("Refused by", f"{record.subscriber}: event {record.offset} of batch {record.batch}"))
    elif record.kind == FILE:
        rows.append(("File", f"{printable(record.key)}, {sized(record.length)} as stored, etag {record.etag}"))
    else:
        rows.append(("File", f"{printable(record.key)}, etag {record.etag}"))
        rows.append(("Where", f"{counted(record.length, 'byte')} at offset {record.offset:,} of the decompressed file"))
    rows.append(("Manifest", record.manifest))
    if record.kind != FILE:
        shown = record.text if record.text is not None else repr(record.data)
        cut = f" … ({sized(record.length)} in all; --bytes writes them)" if len(shown) > _SHOWN_CHARACTERS else ""
        rows.append(("Text" if record.text is not None else "Bytes", shown[:_SHOWN_CHARACTERS] + cut))
    if not is_first:
        session.show("")
    session.show(printing.lines((label, session.clean(text)) for label, text in rows))
