"""Rebuild a lost ledger: from the listing, and from the marks of subscribers that know what they have received.

A mark is the id of a batch that a subscriber has, and begins with the id of its manifest: a hash of the files in it.
So the earlier manifests are found again by trying which neighbouring files have that hash, and their batches have the
same ids as before. What such a subscriber has is delivered to it again, under the same id and with the same bytes,
because a mark does not say whether a manifest was delivered completely. For other subscribers, a date says what they
have.
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
"""Returns the ids of all batches of a day that a subscriber has."""

_ID_CHARACTERS = 24
_LAST_DAY = date(9999, 12, 30)
# Trying files without those that came later is cubic, in files of the day and of a manifest: a few minutes at most.
_MOST_HASHES_BY_ARRIVAL = 400_000_000


@dataclass(slots=True)
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        recovered: number of manifests found again from the marks.
        unmatched: ids of manifests of which a subscriber has batches, but whose files were not found.
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
        marks: those of the subscribers that have any.
        from_day: files of earlier days are not owed to subscribers without marks; None: every subscriber has marks.
        ignore_unmatched: continue even if no files belong to some marks: the events of those batches may be delivered
            again, under other ids.

    Raises:
        ConfigurationError: a subscriber has no marks, and no date says what it has; or it starts ``now``.
        LedgerError: the ledger knows files of this source, or no files belong to some marks.
        ListingFailed: the source could not be listed.
    """
    silent = [name for name in wanted if name not in marks]
    if silent and from_day is None:
        raise ConfigurationError(
            f"--from is missing: {', '.join(silent)} cannot report what was delivered; allowed: the first day that was "
            "not delivered to them, YYYY-MM-DD"
        )
    with planning_alone(source, ledger):
        result = Rebuilt()
        held: set[str] = set()
        recovered: set[str] = set()
        # One transaction: half a ledger would be taken for a complete one.
        with ledger.write(durable=True) as tx:
            source_id = sources.add_source(tx, source.url)
            if manifests.is_any_of(tx, source_id):
                raise LedgerError(
                    f"the ledger {ledger.description} is not empty; move it away before you rebuild it: it knows "
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
            # Over all days: a folder without a date in its name gives the ids of all days for each day.
            result.unmatched = sorted(held - recovered)
            if result.unmatched and not ignore_unmatched:
                raise LedgerError(_unmatched(result))
            if from_day is not None:
                deliveries.waive_before(tx, [one for one in found if one.name in silent], from_day)
    return result


def _refuse_unknown_starts(found: Iterable[Subscription], wanted: Mapping[str, str | None]) -> None:
    """Refuse ``now``: its moment was lost with the ledger, and today's would skip everything that is to be recovered.

    Raises:
        ConfigurationError: a subscriber starts ``now``.
    """
    starts = [one.name for one in found if one.start_at is not None]
    if starts:
        key = "since" if any(wanted[name] for name in starts) else "start_from"
        raise ConfigurationError(
            f"{key} of {', '.join(starts)}: found now, which meant another moment when the lost ledger was created; "
            "allowed here: beginning, or the first day whose files it gets, YYYY-MM-DD"
        )


def recover(files: Sequence[SourceFile], ids: set[str], *, url: str, limits: PlanLimits) -> dict[str, list[SourceFile]]:
    """Manifest id → its files, for each of *ids* that is found among *files* (of one day, in key order).

    A manifest's files were neighbours among those that had arrived when it was planned. So this tries runs of
    neighbours, then neighbours among what is left, then neighbours among what had arrived by each moment.
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
        f"subscribers have batches of {len(result.unmatched)} manifests whose files are no longer in the source as "
        f"they were ({some}). Nothing was written. With --ignore-unmatched the ledger is rebuilt anyway, and what is "
        "left of these files is delivered to these subscribers again, under other ids"
    )
