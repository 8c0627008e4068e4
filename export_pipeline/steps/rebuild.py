"""Make a lost ledger again: from the listing, and from the marks of subscribers that can tell what they have.

A mark is the id of a batch that a subscriber holds, and begins with the id of its manifest: a hash of the files in it.
So the manifests of before are found again by trying which neighbouring files have that hash, and the batches that they
give have the ids of before. What such a subscriber has is handed to it once more, under the same id and with the same
bytes, since no mark tells whether a manifest was delivered to its end. Of who cannot tell, a date says what it has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from itertools import groupby

from export_pipeline.errors import ConfigurationError, LedgerError
from export_pipeline.ledger import deliveries, manifests, planning, sources, subscriptions
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.deliveries import owe
from export_pipeline.ledger.records import DatedFile, PlanLimits, Run, Subscription
from export_pipeline.source.file import SourceFile
from export_pipeline.source.store import Source
from export_pipeline.steps.discover import DiscoverySettings, Found, dated, planning_alone

Marks = Callable[[date], set[str]]
"""Gives the ids of all batches of a day that a subscriber holds."""

_ID_CHARACTERS = 24
_LAST_DAY = date(9999, 12, 30)
# Trying files without those that came later is cubic, in files of the day and of a manifest: some minutes at most.
_MOST_HASHES_BY_ARRIVAL = 400_000_000


@dataclass(slots=True)
class Rebuilt:
    """What was made.

    Attributes:
        recovered: manifests found again by the marks.
        unmatched: ids of manifests that a subscriber holds batches of, and no files were found for.
    """

    files: int = 0
    manifests: int = 0
    recovered: int = 0
    unmatched: list[str] = field(default_factory=list)


def rebuild(
    source: Source,
    ledger: Ledger,
    settings: DiscoverySettings,
    *,
    wanted: Mapping[str, str | None],
    marks: Mapping[str, Marks],
    from_day: date | None,
    run: Run,
    ignore_unmatched: bool = False,
) -> Rebuilt:
    """Fill an empty ledger, day by day.

    Args:
        wanted: the configured subscribers and their ``since``.
        marks: of the subscribers that can tell.
        from_day: files of earlier days are owed to no subscriber without marks; None: every subscriber has some.
        ignore_unmatched: go on where marks are found that no files belong to: what they hold may come again under
            another id.

    Raises:
        ConfigurationError: a subscriber cannot tell, and no date says what it has; or it starts ``now``.
        LedgerError: the ledger knows files of this source, or marks were found that no files belong to.
        ListingFailed: the source could not be listed.
    """
    silent = [name for name in wanted if name not in marks]
    if silent and from_day is None:
        raise ConfigurationError(
            f"--from is missing: {', '.join(silent)} cannot tell what was delivered; allowed: the first day that they "
            "have not got, YYYY-MM-DD"
        )
    with planning_alone(source, ledger):
        result = Rebuilt()
        held: set[str] = set()
        recovered: set[str] = set()
        # One transaction: half a ledger would pass for a whole one.
        with ledger.write(durable=True) as tx:
            source_id = sources.add_source(tx, source.url)
            if manifests.is_any_of(tx, source_id):
                raise LedgerError(
                    f"the ledger {ledger.description} is not empty; move it away before it is made again: it knows "
                    f"files of {source.url}"
                )
            found = subscriptions.register(
                tx, source_id, wanted, start_from=settings.start_from, now=run.now
            ).subscriptions
            _refuse_unknown_starts(found, wanted)
            listing = dated(
                source, settings.layout, Found(), after="", before=settings.layout.next_day_floor(_LAST_DAY)
            )
            for day, group in groupby(listing, key=lambda one: one.day):
                files = [one.file for one in group if day >= settings.start_date]
                ids = {mark[:_ID_CHARACTERS] for name in marks for mark in marks[name](day)}
                groups = recover(files, ids, url=source.url, limits=settings.limits)
                for manifest_id, members in groups.items():
                    manifests.add(
                        tx,
                        manifest_id,
                        members,
                        source_id=source_id,
                        day=day,
                        max_events=settings.limits.max_events,
                        max_bytes=settings.limits.max_bytes,
                        run=run,
                    )
                    planning.add_files(tx, manifest_id, members, source_id=source_id, day=day, now=run.now)
                    owed_to = [one.id for one in found if any(one.owes(file, day) for file in members)]
                    owe(tx, manifest_id, owed_to, day=day, first_key=members[0].key, now=run.now)
                taken = {file.key for members in groups.values() for file in members}
                rest = [DatedFile(file, day) for file in files if file.key not in taken]
                planned = planning.plan(
                    tx,
                    source_id=source_id,
                    url=source.url,
                    files=rest,
                    subscriptions=found,
                    limits=settings.limits,
                    run=run,
                )
                result.files += len(files)
                result.manifests += len(groups) + len(planned)
                result.recovered += len(groups)
                held |= ids
                recovered |= groups.keys()
            # Over all days: a folder without a date in its name gives the ids of every day on each.
            result.unmatched = sorted(held - recovered)
            if result.unmatched and not ignore_unmatched:
                raise LedgerError(_unmatched(result))
            if from_day is not None:
                deliveries.waive_before(tx, [one for one in found if one.name in silent], from_day)
    return result


def _refuse_unknown_starts(found: Iterable[Subscription], wanted: Mapping[str, str | None]) -> None:
    """The moment that ``now`` once was went with the ledger: as today's it would pass by all that is to be found again.

    Raises:
        ConfigurationError: a subscriber starts now.
    """
    starts = [one.name for one in found if one.start_at is not None]
    if starts:
        key = "since" if any(wanted[name] for name in starts) else "start_from"
        raise ConfigurationError(
            f"{key} of {', '.join(starts)}: found now, which was another moment when the lost ledger was made; allowed "
            "here: beginning, or the day from which on it gets files, YYYY-MM-DD"
        )


def recover(files: Sequence[SourceFile], ids: set[str], *, url: str, limits: PlanLimits) -> dict[str, list[SourceFile]]:
    """Manifest id → its files, of each of *ids* that is found among *files* (of one day, in key order).

    A manifest's files were neighbours among those that had arrived when it was planned. So stretches are tried, then
    stretches of what these leave, then stretches of what had arrived by each moment.
    """
    found: dict[str, list[SourceFile]] = {}
    left = list(files)

    def take(among: Sequence[SourceFile]) -> bool:
        nonlocal left
        taken = dict(_stretches(among, ids - found.keys(), url, limits))
        found.update(taken)
        keys = {file.key for members in taken.values() for file in members}
        left = [file for file in left if file.key not in keys]
        return bool(taken)

    while ids - found.keys() and take(left):
        pass
    if len(left) ** 2 * min(len(left), limits.manifest_max_files) <= _MOST_HASHES_BY_ARRIVAL:
        for moment in sorted({file.last_modified for file in left}):
            if not ids - found.keys():
                break
            take([file for file in left if file.last_modified <= moment])
    return found


def _stretches(
    files: Sequence[SourceFile], ids: set[str], url: str, limits: PlanLimits
) -> Iterator[tuple[str, list[SourceFile]]]:
    start = 0
    beginning = sha256(f"{url}\n{limits.max_events}\n{limits.max_bytes}\n".encode())
    while start < len(files):
        digest = beginning.copy()
        for end in range(start, min(start + limits.manifest_max_files, len(files))):
            digest.update(f"{files[end].key}\0{files[end].etag}\0".encode("utf-8", "surrogatepass"))
            manifest_id = digest.hexdigest()[:_ID_CHARACTERS]
            if manifest_id in ids:
                yield manifest_id, list(files[start : end + 1])
                start = end
                break
        start += 1


def _unmatched(result: Rebuilt) -> str:
    some = ", ".join(result.unmatched[:5]) + (", …" if len(result.unmatched) > 5 else "")
    return (
        f"subscribers hold batches of {len(result.unmatched)} manifests whose files are not in the source as they were "
        f"({some}). Nothing was written. With --ignore-unmatched the ledger is made all the same, and what is left of "
        "their files comes to these subscribers again, under other ids"
    )
