"""``status --verify``: the listing of the whole source beside the ledger."""

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

# What arrived so lately may be found, and delivered, by a run that is still to come or under way.
_RECENT = timedelta(hours=1)
# Keys may be named by a clock or a zone ahead of this one.
_AHEAD = timedelta(days=2)
_SHOWN_KEYS = 3


@dataclass(frozen=True, slots=True)
class Verified:
    """What the comparison came to; the ledger is None where no run has made one yet."""

    comparison: "Comparison | None"

    @property
    def is_well(self) -> bool:
        """Every object that is due was found, and delivered to everybody who gets it."""
        found = self.comparison
        return found is not None and not (
            found.missing_objects or any(tally.is_short for tally in found.subscribers.values())
        )

    def sentences(self) -> Iterator[str]:
        """The comparison in words: first the source, then each subscriber."""
        found = self.comparison
        if found is None:
            yield "there is no ledger to compare the source with; the first run makes it"
            return
        days = f"{found.first_day} to {found.last_day}"
        text = f"{days}: {counted(found.objects, 'object')} of the layout listed, {found.planned:,} planned"
        text += f", {found.unwanted:,} before every subscriber's start or ignored" if found.unwanted else ""
        text += f", {found.recent:,} not found yet, but they arrived within the hour" if found.recent else ""
        if found.missing_objects:
            keys = [one.file.key for one in found.missing]
            text += f"; MISSING: no run has found {_some(found.missing_objects, keys)}"
            if found.missing_overwrites:
                text += f" ({found.missing_overwrites:,} of them new content under a key that was taken before)"
        yield text
        for name, tally in found.subscribers.items():
            text = f"{name} has {tally.delivered:,} of the {counted(tally.wanted, 'object')} that it gets"
            text += f", {tally.waiting:,} on their way" if tally.waiting else ""
            text += f", {tally.missing:,} missing" if tally.missing else ""
            for one in tally.shortfalls:
                words = "owed for more than an hour" if one.is_owed else one.kind.replace("_", " ")
                text += f"; {words}: {_some(one.objects, one.keys)}" if one.objects else ""
            yield text

    def as_plain(self) -> dict[str, Any] | None:
        """As JSON has it."""
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
    """List the source from its first day on and look every object up in the ledger. Changes nothing.

    Raises:
        ListingFailed: the source could not be listed.
        LedgerError: the ledger is of another version, or its database does not answer.
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
