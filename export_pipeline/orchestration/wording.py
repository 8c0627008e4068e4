"""The log lines of an export: each says what happened, to which thing, and what happens next."""

from collections.abc import Mapping, Sequence
from datetime import date

from export_pipeline.errors import TryLater
from export_pipeline.ledger.backfills import AskedDay
from export_pipeline.ledger.inspection import UnreadableFile
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.run_totals import RunTotals
from export_pipeline.printable import printable
from export_pipeline.quantities import counted, sized
from export_pipeline.source.file import utf8
from export_pipeline.source.ignored import LeftOut
from export_pipeline.steps.backfill import Backfill
from export_pipeline.steps.deliver import Delivered, Stopped
from export_pipeline.steps.discover import Found
from export_pipeline.steps.messages import Noticed, Taken
from export_pipeline.steps.progress import Amount
from export_pipeline.steps.read import ReadOutcome, Staged

NO_SUBSCRIBER = (
    "no subscriber is configured, so no events can be delivered; add one under `subscribers:` in {deployment}"
)
_SHOWN_MANIFESTS = 10
NEVER_READ_NEXT = "no action is needed: they stay owed, and the next run of export_job reads and delivers them"


def found_new(found: Found) -> str:
    """How many new files were found, from which key, and whether more are waiting."""
    since = f" since {found.since}" if found.since else ""
    more = "; more are waiting for the next run" if found.more else ""
    return f"found {counted(found.files, 'new file')}{since}, planned as {counted(found.manifests, 'manifest')}{more}"


def found_nothing(found: Found, frequency: str) -> str:
    """No new file was found; with Altis' advice."""
    since = f" since {found.since}" if found.since else ""
    return f"found no new file{since}; if this is usual, poll less often (frequency is {frequency})"


def found_odd(found: Found) -> list[str]:
    """Warnings about keys that were skipped, overwritten or unexpected, and about an ignored cursor."""
    odd = []
    if found.why_ignored:
        odd.append(
            f"the cursor {printable(found.ignored_cursor)} {found.why_ignored}, so it was ignored: the listing started "
            f"at {found.since or 'the first key'}, as recorded in the ledger. To skip older files, set `start_from` or "
            "the `since` of a subscriber; to list again from an earlier day, set the cursor to that day"
        )
    if found.overwritten:
        odd.append(
            f"{counted(found.overwritten, 'known key')} {_were(found.overwritten)} overwritten (new etag), "
            f"such as {_some(found.overwritten_keys)}: source.on_overwrite says whether their unchanged lines are "
            "delivered again (read), or not (changed)"
        )
    if found.undated:
        odd.append(
            f"{counted(found.undated, 'key')} did not match source.layout and {_were(found.undated)} ignored, "
            f"such as {_some(found.undated_keys)}"
        )
    if found.too_old:
        odd.append(f"ignored {counted(found.too_old, 'file')} older than source.start_date")
    return odd


def ignored(found: LeftOut) -> str:
    """How many names were ignored, and the pattern that the first one matches."""
    key, pattern = next(iter(found.ignored_keys.items()))
    return (
        f"ignored {counted(found.ignored, 'temporary or hidden name')}, such as {printable(key)}, which matches "
        f"{pattern!r} in source.ignore"
    )


def not_listed(found: LeftOut) -> str:
    """The first names that could not be listed, or only with a warning, each with its reason."""
    some = "; ".join(f"{printable(key)}: {printable(reason)}" for key, reason in found.troubled_keys.items())
    more = found.troubles - len(found.troubled_keys)
    return f"the listing has {counted(found.troubles, 'warning')}: {some}{f'; and {more:,} more' if more else ''}"


def listed_so_far(done: Amount) -> str:
    """Progress of a long listing."""
    return f"listing: {counted(done.files, 'key')} so far"


def read_so_far(done: Amount, planned: Amount, seconds: float) -> str:
    """Progress of reading a manifest."""
    return (
        f"reading: {done.files:,} of {counted(planned.files, 'file')}, {sized(done.size_bytes)} of "
        f"{sized(planned.size_bytes)} as stored, {counted(done.events, 'event')} so far{_rate(done, seconds)}"
    )


def delivered_so_far(name: str, done: Amount, planned: Amount, seconds: float) -> str:
    """Progress of delivering a manifest to a subscriber."""
    return (
        f"{name} has accepted {done.events:,} of {counted(planned.events, 'event')}, {sized(done.size_bytes)} of "
        f"{sized(planned.size_bytes)} so far{_rate(done, seconds)}"
    )


def run_so_far(done: Mapping[str, Amount], planned: Mapping[str, Amount]) -> str:
    """Progress of a run, by subscriber."""
    parts = [
        f"{name} has {done[name].files:,} of {counted(amount.files, 'file')}, {sized(done[name].size_bytes)} of "
        f"{sized(amount.size_bytes)} as stored, {counted(done[name].events, 'event')}"
        for name, amount in planned.items()
    ]
    return f"this run so far: {'; '.join(parts)}"


def handing_on(manifests: Sequence[OwedManifest]) -> str:
    """What this run will read and deliver."""
    names = sorted({name for manifest in manifests for name in manifest.subscribers})
    files = sum(manifest.files for manifest in manifests)
    return (
        f"reading {counted(files, 'file')} in {counted(len(manifests), 'manifest')}, from "
        f"{printable(min((one.first_key for one in manifests), key=utf8))}, for {', '.join(names)}"
    )


def left_waiting(files: Mapping[str, int]) -> str:
    """What a run leaves to later runs.

    Args:
        files: subscriber → number of files.
    """
    names = [f"{counted(number, 'file')} for {name}" for name, number in files.items() if number]
    return f"left for later runs: {', '.join(names)}"


def read(staged: Staged, names: Sequence[str]) -> str:
    """What a manifest's files contain, and which subscribers get it."""
    of = f"{counted(len(staged.manifest.files), 'file')} of {staged.manifest.day}"
    batches = counted(len(staged.batches), "batch", "batches")
    if staged.reading is None:
        return f"{batches} of {of} already staged by an earlier run; {_going_to(names)}"
    aside = staged.reading.events_quarantined
    events = counted(staged.reading.events_batched, "event")
    return f"found {events} in {of}; {_going_to(names)} in {batches}" + (
        f"; quarantined {counted(aside, 'malformed record')} ({_where_to_look(staged.manifest.day)})" if aside else ""
    )


def read_empty(staged: Staged) -> str:
    """The files contain no valid events."""
    files = f"{counted(len(staged.manifest.files), 'file')} of {staged.manifest.day} contained no valid events"
    aside = staged.reading.events_quarantined if staged.reading is not None else 0
    if not aside:
        return f"{files}: there is nothing to deliver"
    return (
        f"{files}: there is nothing to deliver; quarantined {counted(aside, 'malformed record')} "
        f"({_where_to_look(staged.manifest.day)})"
    )


def retrying(name: str, error: TryLater, seconds: float, retries: int) -> str:
    """Why a request to a subscriber is retried; *retries* of one delivery so far, this one included."""
    before = f" ({retries} retries so far)" if retries > 1 else ""
    return f"{name}: {error}; retrying in {seconds:.1f} s{before}"


def run_ended(totals: RunTotals | None) -> str:
    """The sum of a run."""
    if totals is None:
        return "this run: no run has listed the source yet"
    found = f"found {counted(totals.found_files, 'new file')}" if totals.found_files else "found no new file"
    delivered = [
        f"{name} {counted(one.events, 'event')} ({counted(one.files, 'file')} complete)"
        for name, one in totals.delivered.items()
        if one.events or one.files
    ]
    kinds = (
        ("stretch", "malformed record", "malformed records"),
        ("refused", "refused event", "refused events"),
        ("file", "unreadable file", "unreadable files"),
    )
    aside = [counted(totals.aside[kind], one, many) for kind, one, many in kinds if totals.aside.get(kind)]
    still = [f"{name} {counted(files, 'file')}" for name, files in totals.owed_files.items() if files]
    return (
        f"this run: {found}; delivered: {', '.join(delivered) or 'nothing'}; quarantined: "
        f"{', '.join(aside) or 'nothing'}; still owed: {', '.join(still) or 'nothing'}"
    )


def delivered(name: str, done: Delivered) -> str:
    """What a subscriber has accepted."""
    totals = done.totals
    if not (totals.accepted or totals.refused or totals.filtered):
        return f"{name}: nothing to deliver for {done.manifest.day}, because the files contained no valid events"
    look = _where_to_look(done.manifest.day)
    refused = f", refused {totals.refused:,} (quarantined; {look})" if totals.refused else ""
    filtered = f", {totals.filtered:,} were filtered out" if totals.filtered else ""
    events, batches = counted(totals.accepted, "event"), counted(done.batches, "batch", "batches")
    took = _time_and_rate(totals.accepted, done.seconds)
    again = (
        "; a replay was requested meanwhile and is still owed: the next run delivers it" if done.is_asked_again else ""
    )
    return f"{name} accepted {events} of {done.manifest.day} in {batches} ({took}){refused}{filtered}{again}"


def stopped(name: str, done: Stopped) -> str:
    """Why a delivery stopped; a later run continues it."""
    how_far = f" after {done.accepted_batches:,} of {counted(done.batches, 'batch', 'batches')}" if done.batches else ""
    return f"{name}: stopped{how_far}, because {done.reason}; the rest stays owed, and the next run continues with it"


def not_read(manifest_id: str, reason: str) -> str:
    """Why a manifest is left for a later run."""
    return f"manifest {manifest_id} is left for the next run, because {reason}"


def after_folding(manifests: int, keep_days: int) -> str:
    """How many manifests of old days were folded."""
    return (
        f"folded {counted(manifests, 'manifest')} older than {counted(keep_days, 'day')}: the ledger keeps "
        "their counts and checksums"
    )


def unreadable(outcome: ReadOutcome, max_attempts: int) -> str:
    """Which files of a manifest could not be read, why, and what happens next."""
    lines = [f"{printable(key)}: {printable(reason)}" for key, reason in outcome.unreadable.items()]
    fate = f"each {_retried(max_attempts)}"
    if outcome.quarantined:
        fate += f"; given up now and quarantined: {_some(outcome.quarantined)}"
    return f"{counted(len(lines), 'file')} could not be read ({fate}):\n" + "\n".join(lines)


def unreadable_files(found: Sequence[UnreadableFile]) -> str:
    """How many files a run could not read, and why the first one."""
    more = f" (and {counted(len(found) - 1, 'more file')})" if len(found) > 1 else ""
    first = f"{printable(found[0].key)}: {printable(found[0].reason)}"
    return f"{counted(len(found), 'file')} could not be read, all others were read: {first}{more}"


def fate_of_unreadable(file: UnreadableFile, max_attempts: int) -> str:
    """What happens next to a file that could not be read."""
    if not file.is_tried_again:
        return f"nothing: it is in the quarantine as a whole ({_where_to_look(file.day)})"
    return f"{_retried(max_attempts)} ({counted(file.attempts, 'attempt')} so far)"


def backfill(day: str, planned: Backfill) -> list[str]:
    """What a backfill of a day found, and what it will deliver."""
    sentences = [*planned.found.notes, *found_odd(planned.found)]
    if planned.found.files:
        sentences.append(f"found {counted(planned.found.files, 'file')} of {day} that no earlier run had seen")
    if not planned.manifests:
        return [*sentences, f"nothing of {day} is owed to the chosen subscribers"]
    if planned.repeated:
        sentences.append(f"repeating {counted(planned.repeated, 'delivery', 'deliveries')} of {day}")
    return [*sentences, handing_on(planned.manifests)]


def unusable(name: str, reason: str) -> str:
    """A subscriber that cannot be initialized."""
    return f"{name}: not delivering, everything stays owed: {reason}"


def never_read(manifests: Sequence[str]) -> str:
    """Manifests that a re-execution did not include."""
    shown = ", ".join(manifests[:_SHOWN_MANIFESTS])
    more = f" and {len(manifests) - _SHOWN_MANIFESTS:,} more" if len(manifests) > _SHOWN_MANIFESTS else ""
    return (
        f"{counted(len(manifests), 'manifest')} assigned to the first run {_were(len(manifests))} never read, "
        "neither by it nor by this re-execution: after a run was killed, Dagster repeats only the steps that had "
        f"started. They stay owed, and the next run of export_job delivers them: {shown}{more}"
    )


def day_without_a_run(one: AskedDay, names: Sequence[str]) -> str:
    """What happens to a day of a backfill that no run reached."""
    return (
        f"{one.request}: Dagster dropped the run for {one.day}, for example because the code server was unavailable, "
        f"or the run ended before that day; its files are now owed to {', '.join(names)}, and this run and later ones "
        "deliver them"
    )


def _rate(done: Amount, seconds: float) -> str:
    return f" ({done.events / seconds:,.0f} events/s)" if seconds >= 1 else ""


def _time_and_rate(events: int, seconds: float) -> str:
    rate = f", {events / seconds:,.0f} events/s" if events and seconds > 0 else ""
    return f"{seconds:.{2 if seconds < 1 else 1}f} s{rate}"


def _retried(max_attempts: int) -> str:
    return f"is retried alone in later runs, and quarantined after {counted(max_attempts, 'attempt')}"


def _where_to_look(day: date) -> str:
    return f"export-pipeline quarantine list --day {day}"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(map(printable, keys))


def listed(noticed: Noticed) -> str:
    """Why the source was listed, and whether the listing is complete."""
    goes_on = "" if noticed.is_listed_to_the_end else "; the next run continues the listing"
    return f"listed the source in addition to its queue, because {noticed.why_listed}{goes_on}"


def taken(found: Taken) -> str:
    """What the messages were about."""
    parts = [f"{counted(found.files, 'new file')}"]
    parts += [f"{counted(found.known, 'file')} already known"] if found.known else []
    parts += [f"{counted(found.gone, 'file')} no longer in the source"] if found.gone else []
    others = sum(found.other.values())
    names = ", ".join(sorted(found.other)[:5])
    parts += [f"{counted(others, 'event')} of another kind ({names})"] if others else []
    return f"received {counted(found.messages, 'message')}: {', '.join(parts)}"


def nothing(noticed: Noticed, frequency: str) -> str:
    """No new file was found, by messages or by a listing."""
    return (
        f"found no new file: the queue announced none, and the next listing is due at "
        f"{noticed.next_listing_at:%Y-%m-%d %H:%M} UTC; if this is usual, poll less often (frequency is {frequency})"
    )


def odd(found: Taken) -> list[str]:
    """Warnings about messages that need attention."""
    sentences = []
    if found.foreign:
        sentences.append(
            f"the queue announced {counted(found.foreign, 'file')} outside this source, such as "
            f"{', '.join(map(printable, found.foreign_keys))}; the messages were deleted: use this queue for this "
            "export only"
        )
    if found.unseen_files:
        key, reason = next(iter(found.unseen.items()))
        sentences.append(
            f"the store did not confirm {counted(found.unseen_files, 'file')}; the messages stay in the queue: "
            f"{printable(key)}: {printable(reason)}"
        )
    if found.undeleted:
        sentences.append(
            f"{counted(found.undeleted, 'message')} could not be deleted from the queue and will be received again, "
            "which is harmless: the ledger knows their files"
        )
    return sentences


def wrong(found: Taken) -> str:
    """Which messages are invalid, and what happens to them."""
    fate = (
        "quarantined under notifications/ and deleted from the queue"
        if found.wrong_are_kept
        else "left in the queue, which redelivers them until they move to its dead-letter queue or, without one, expire"
    )
    lines = [f"{printable(identity)}: {reason}" for identity, reason in found.wrong.items()]
    return f"{counted(found.wrong_messages, 'invalid message')} ({fate}):\n" + "\n".join(lines)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _going_to(names: Sequence[str]) -> str:
    return f"delivering to {', '.join(names)}" if names else "delivered meanwhile by another run"
