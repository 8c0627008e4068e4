"""``status --verify``: compare a listing of the whole source with the ledger."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from export_pipeline.cli.session import as_plain, database_errors_told
from export_pipeline.quantities import counted

if TYPE_CHECKING:
    from export_pipeline.cli.outline import Outline
    from export_pipeline.cli.session import Session
    from export_pipeline.steps.completeness import Comparison

# A file that arrived this recently may still be found and delivered by the current or the next run.
_RECENT = timedelta(hours=1)
# A key's date can come from a clock or a time zone ahead of this one.
_AHEAD = timedelta(days=2)
_SHOWN_KEYS = 3


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of the comparison; None if there is no ledger yet."""

    comparison: "Comparison | None"

    @property
    def is_well(self) -> bool:
        """Every object that is due was found, and delivered to every subscriber that is owed it."""
        found = self.comparison
        return found is not None and not (
            found.missing_objects or any(tally.is_short for tally in found.subscribers.values())
        )

    def sentences(self) -> Iterator[str]:
        """The result in sentences: first the source, then each subscriber."""
        found = self.comparison
        if found is None:
            yield "there is no ledger to compare the source with; the first run creates it"
            return
        days = f"{found.first_day} to {found.last_day}"
        text = f"{days}: {counted(found.objects, 'object')} in the layout listed, {found.planned:,} planned"
        text += f", {found.unwanted:,} older than every subscriber's start or ignored" if found.unwanted else ""
        text += f", {found.recent:,} not found yet (arrived within the last hour)" if found.recent else ""
        if found.missing_objects:
            keys = [one.file.key for one in found.missing]
            text += f"; MISSING, not found by any run: {_some(found.missing_objects, keys)}"
            if found.missing_overwrites:
                text += f" ({found.missing_overwrites:,} of them new content under a known key)"
        yield text
        for name, tally in found.subscribers.items():
            text = f"{name} has received {tally.delivered:,} of {counted(tally.wanted, 'object')}"
            text += f", {tally.waiting:,} in progress" if tally.waiting else ""
            text += f", {tally.missing:,} missing" if tally.missing else ""
            for one in tally.shortfalls:
                words = "owed for more than an hour" if one.is_owed else one.kind.replace("_", " ")
                text += f"; {words}: {_some(one.objects, one.keys)}" if one.objects else ""
            yield text

    def as_plain(self) -> dict[str, Any] | None:
        """The result as JSON values."""
        found = self.comparison
        if found is None:
            return None
        subscribers = {name: {**as_plain(one), "missing": one.missing} for name, one in found.subscribers.items()}
        return {
            "first_day": found.first_day.isoformat(),
            "last_day": found.last_day.isoformat(),
            "objects": found.objects,
            "planned": found.planned,
            "unwanted": found.unwanted,
            "recent": found.recent,
            "missing": found.missing_objects,
            "missing_overwrites": found.missing_overwrites,
            "missing_keys": [one.file.key for one in found.missing],
            "subscribers": subscribers,
        }


def verify(session: "Session", outline: "Outline", *, now: datetime) -> Verified:
    """List the source from its first day and look up every object in the ledger. Changes nothing.

    Raises:
        ListingFailed: the source could not be listed.
        LedgerError: the ledger is of another version, or its database failed.
    """
    from export_pipeline.errors import LedgerMissing
    from export_pipeline.ledger.database import Ledger
    from export_pipeline.source.store import open_source
    from export_pipeline.steps.completeness import compare_all

    with database_errors_told(), closing(open_source(outline.source)) as source:
        try:
            ledger = Ledger(outline.ledger_url, create=False)
        except LedgerMissing:
            return Verified(None)
        with closing(ledger):
            return Verified(
                compare_all(
                    source,
                    ledger,
                    outline.listing_rules(),
                    first_day=outline.source.start_date,
                    last_day=(now + _AHEAD).date(),
                    wanted=outline.subscribers,
                    due_before=now - _RECENT,
                    progress=lambda one: (
                        session.note(f"compared {counted(one.objects, 'object')} up to {one.last_day}")
                        if one.objects
                        else None
                    ),
                )
            )


def _some(number: int, keys: list[str]) -> str:
    more = number - min(len(keys), _SHOWN_KEYS)
    return f"{counted(number, 'object')}: {', '.join(keys[:_SHOWN_KEYS])}" + (f" and {more:,} more" if more else "")
