"""Results of the asset checks: a sentence, numbers to plot, and a severity."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity, MetadataValue

from export_pipeline.ledger.balance import DeliveryBalance, ReadingBalance
from export_pipeline.ledger.owed import Waiting
from export_pipeline.orchestration import wording
from export_pipeline.printable import as_code, printable
from export_pipeline.quantities import counted, lasting
from export_pipeline.steps.completeness import (
    MOST_UNLISTED,
    SHOWN_KEYS,
    Comparison,
    Freshness,
    Repaired,
    SubscriberTally,
)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check of one asset.

    Attributes:
        is_grave: an error, not only a warning, if the check did not pass.
    """

    passed: bool
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    is_grave: bool = True

    def of(self, asset: list[str], check: str) -> AssetCheckResult:
        """The result for Dagster."""
        return AssetCheckResult(
            passed=self.passed,
            asset_key=asset,
            check_name=check,
            description=self.text,
            metadata=self.metadata,
            severity=AssetCheckSeverity.ERROR if self.is_grave else AssetCheckSeverity.WARN,
        )


NOTHING_YET = Result(True, "No run has delivered to this subscriber yet.")


def reading_balance(found: ReadingBalance) -> Result:
    """Check that events framed = events in batches + events quarantined."""
    text = (
        f"{counted(found.framed, 'event')} framed in {counted(found.manifests, 'manifest')} = {found.batched:,} in "
        f"batches + {found.quarantined:,} quarantined"
    )
    numbers = {"events_framed": found.framed, "events_batched": found.batched, "events_quarantined": found.quarantined}
    return _balance(text, numbers, found.manifests, found.wrong)


def delivery_balance(found: DeliveryBalance) -> Result:
    """Check that events in batches = accepted + refused + filtered."""
    text = (
        f"{counted(found.batched, 'event')} in batches of {counted(found.manifests, 'manifest')} = "
        f"{found.accepted:,} accepted + {found.refused:,} refused + {found.filtered:,} filtered"
    )
    numbers = {
        "events_batched": found.batched,
        "accepted": found.accepted,
        "refused": found.refused,
        "filtered": found.filtered,
    }
    return _balance(text, numbers, found.manifests, found.wrong)


def completeness(found: Comparison, repaired: Repaired | None) -> dict[str, Result]:
    """Subscriber → what it has received of the listed objects; under the empty name, objects that no run has found."""
    days = str(found.first_day) if found.first_day == found.last_day else f"{found.first_day} to {found.last_day}"
    results = {"": _missing(found, repaired, days)}
    for name, tally in found.subscribers.items():
        results[name] = _tally(name, tally, days, repaired)
    return results


def freshness(found: Freshness, allowed: timedelta, now: datetime) -> dict[str, Result]:
    """Subscriber → age of the oldest file it is owed; under the empty name, of the oldest that no run has found."""
    oldest = found.oldest_unlisted
    more = "at least " if found.unlisted == MOST_UNLISTED else ""
    first = printable(found.first_unlisted_key)
    unlisted = (
        f"{more}{counted(found.unlisted, 'file')} not found by any run yet, from {first}; the "
        f"oldest arrived {_ago(oldest, now)}"
        if oldest
        else f"no new files{f' since {printable(found.since)}' if found.since else ''}"
    )
    results = {"": _lag(unlisted, oldest, found.unlisted, allowed, now)}
    for one in found.waiting:
        results[one.subscriber] = lag(one, allowed, now)
    return results


def lag(one: Waiting, allowed: timedelta, now: datetime) -> Result:
    """The age of the oldest file that one subscriber is owed."""
    return _lag(_waiting(one, now), one.oldest_arrival, one.files, allowed, now)


def _balance(text: str, numbers: dict[str, int], manifests: int, wrong: Sequence[str]) -> Result:
    metadata: dict[str, Any] = {**numbers, "manifests": manifests, "imbalances": len(wrong)}
    if wrong:
        metadata["where"] = _listed(wrong[:SHOWN_KEYS])
        text = f"{counted(len(wrong), 'manifest')} with events that are not accounted for, the first: {wrong[0]}"
    return Result(not wrong, text, metadata)


def _missing(found: Comparison, repaired: Repaired | None, days: str) -> Result:
    missing = len(found.missing)
    text = f"{days}: {counted(found.objects, 'object')}, {found.planned:,} planned"
    text += f", {found.unwanted:,} older than every subscriber's start or ignored" if found.unwanted else ""
    text += f", {found.recent:,} too recent to count" if found.recent else ""
    metadata: dict[str, Any] = {
        "objects": found.objects,
        "planned": found.planned,
        "unwanted": found.unwanted,
        "recent": found.recent,
        "missing": missing,
        "days": days,
    }
    if missing:
        text += f", {missing:,} missing (not found by any run), the first is {printable(found.missing[0].file.key)}"
        metadata["missing_keys"] = _listed([one.file.key for one in found.missing[:SHOWN_KEYS]])
    if repaired:
        text += f". {counted(repaired.files, 'file')} planned now; the next run delivers them"
        metadata |= {"repaired_files": repaired.files, "repaired_manifests": repaired.manifests}
    left_out = found.left_out
    if left_out.ignored:
        text += f". {wording.ignored(left_out)}"
        metadata |= {"ignored_names": left_out.ignored, "ignored_keys": _listed(list(left_out.ignored_keys))}
    if left_out.troubles:
        not_all = "the comparison is incomplete: " if left_out.unlisted else ""
        text += f". {not_all}{wording.not_listed(left_out)}"
        metadata |= {"not_listed": left_out.unlisted, "odd_keys": _listed(list(left_out.troubled_keys))}
    return Result(not (missing or left_out.unlisted), text, metadata, is_grave=bool(missing) and repaired is None)


def _tally(name: str, tally: SubscriberTally, days: str, repaired: Repaired | None) -> Result:
    missing = tally.missing
    text = f"{days}: {name} has received {tally.delivered:,} of {counted(tally.wanted, 'object')}"
    text += f", {tally.waiting:,} in progress" if tally.waiting else ""
    text += f", {missing:,} missing" if missing else ""
    short = [one for one in tally.shortfalls if one.objects]
    for one in short:
        text += f", {one.objects:,} {one.words}"
        text += f", the first is {printable(one.keys[0])}" if one.is_owed else ""
    metadata: dict[str, Any] = {
        "objects": tally.wanted,
        "delivered": tally.delivered,
        "waiting": tally.waiting,
        "missing": missing,
        **{one.kind: one.objects for one in tally.shortfalls},
        "days": days,
        **{f"{one.kind}_keys": _listed(one.keys) for one in short},
    }
    grave = any(one.is_owed for one in short) or (missing > 0 and repaired is None)
    return Result(not tally.is_short, text, metadata, is_grave=grave)


def _waiting(one: Waiting, now: datetime) -> str:
    if one.oldest_arrival is None:
        return f"nothing is owed to {one.subscriber}"
    text = f"{counted(one.files, 'file')} owed to {one.subscriber}; the oldest arrived {_ago(one.oldest_arrival, now)}"
    return text + ("; the latest attempt failed" if one.failing else "")


def _lag(text: str, oldest: datetime | None, files: int, allowed: timedelta, now: datetime) -> Result:
    lag = max(timedelta(), now - oldest) if oldest else timedelta()
    passed = lag <= allowed
    limit = "" if passed else f" (allowed: {lasting(allowed.total_seconds())})"
    metadata = {
        "lag_seconds": MetadataValue.float(lag.total_seconds()),
        "allowed_lag_seconds": MetadataValue.float(allowed.total_seconds()),
        "files_waiting": files,
    }
    return Result(passed, text + limit, metadata)


def _ago(moment: datetime | None, now: datetime) -> str:
    return f"{lasting((now - moment).total_seconds())} ago" if moment else ""


def _listed(lines: Sequence[str]) -> MetadataValue[Any]:
    return MetadataValue.md("\n".join(f"- {as_code(line)}" for line in lines))
