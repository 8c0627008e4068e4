"""The sentences of the event log: one where something happened, none that needs the source code to be understood."""

from collections.abc import Mapping, Sequence
from datetime import date

from export_pipeline.ledger.backfills import AskedDay
from export_pipeline.ledger.inspection import UnreadableFile
from export_pipeline.ledger.owed import OwedManifest
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
    "no subscriber is configured, so there is nobody to hand events to; add one under `subscribers:` in {deployment}"
)


ALL_READ = "no file that this run read was unreadable"
_SHOWN_MANIFESTS = 10
NEVER_READ_NEXT = "nothing: they stay owed, and the next run of export_job reads and delivers them"


def found_new(found: Found) -> str:
    """How many files were found, since where, and whether more wait."""
    since = f" since {found.since}" if found.since else ""
    more = "; more are waiting for the next run" if found.more else ""
    return f"found {counted(found.files, 'new file')}{since}, planned as {counted(found.manifests, 'manifest')}{more}"


def found_nothing(found: Found, frequency: str) -> str:
    """Nothing was found; the original's hint."""
    since = f" since {found.since}" if found.since else ""
    return f"found no new file{since}; if this is usual, poll less often (frequency is {frequency})"


def found_odd(found: Found) -> list[str]:
    """Sentences about keys that were not taken, or taken with a question."""
    odd = []
    if found.why_ignored:
        odd.append(
            f"the cursor {printable(found.ignored_cursor)} {found.why_ignored}, so it was ignored: the listing began "
            f"at {found.since or 'the first key'}, as the ledger says. To leave out older files set `start_from`, or "
            "the `since` of a subscriber; to list once more from an earlier day on, set the cursor to that day"
        )
    if found.overwritten:
        odd.append(
            f"{counted(found.overwritten, 'known key')} came with new content (another etag), "
            f"such as {_some(found.overwritten_keys)}"
        )
    if found.undated:
        odd.append(
            f"{counted(found.undated, 'key')} did not match the layout and were left alone, "
            f"such as {_some(found.undated_keys)}"
        )
    if found.too_old:
        odd.append(f"{counted(found.too_old, 'file')} older than start_date were left alone")
    return odd


def ignored(found: LeftOut) -> str:
    """How many names were left alone, and by which pattern the first was."""
    key, pattern = next(iter(found.ignored_keys.items()))
    return (
        f"ignored {counted(found.ignored, 'temporary or hidden name')}, such as {printable(key)}, by {pattern!r} of "
        "source.ignore"
    )


def not_listed(found: LeftOut) -> str:
    """What could not be listed, or not as it is, each by name."""
    some = "; ".join(f"{printable(key)}: {printable(reason)}" for key, reason in found.troubled_keys.items())
    more = found.troubles - len(found.troubled_keys)
    return f"the listing has {counted(found.troubles, 'warning')}: {some}{f'; and {more:,} more' if more else ''}"


def listed_so_far(done: Amount) -> str:
    """How far a long listing is."""
    return f"listing: {counted(done.files, 'key')} so far"


def read_so_far(done: Amount, planned: Amount, seconds: float) -> str:
    """How far the reading of a manifest is."""
    return (
        f"reading: {done.files:,} of {counted(planned.files, 'file')}, {sized(done.size_bytes)} of "
        f"{sized(planned.size_bytes)} as stored, {counted(done.events, 'event')} so far{_rate(done, seconds)}"
    )


def delivered_so_far(name: str, done: Amount, planned: Amount, seconds: float) -> str:
    """How far a subscriber is with a manifest."""
    return (
        f"{name} has accepted {done.events:,} of {counted(planned.events, 'event')}, {sized(done.size_bytes)} of "
        f"{sized(planned.size_bytes)} so far{_rate(done, seconds)}"
    )


def run_so_far(done: Mapping[str, Amount], planned: Mapping[str, Amount]) -> str:
    """How far a run is with each subscriber."""
    parts = [
        f"{name} has {done[name].files:,} of {counted(amount.files, 'file')}, {sized(done[name].size_bytes)} of "
        f"{sized(amount.size_bytes)} as stored, {counted(done[name].events, 'event')}"
        for name, amount in planned.items()
    ]
    return f"this run so far: {'; '.join(parts)}"


def handing_on(manifests: Sequence[OwedManifest]) -> str:
    """What this run goes on to read and deliver."""
    names = sorted({name for manifest in manifests for name in manifest.subscribers})
    files = sum(manifest.files for manifest in manifests)
    return (
        f"reading {counted(files, 'file')} in {counted(len(manifests), 'manifest')}, from "
        f"{printable(min((one.first_key for one in manifests), key=utf8))} on, for {', '.join(names)}"
    )


def left_waiting(files: Mapping[str, int]) -> str:
    """What a run leaves to later ones.

    Args:
        files: subscriber → how many.
    """
    names = [f"{counted(number, 'file')} for {name}" for name, number in files.items() if number]
    return f"later runs take what more is owed: {', '.join(names)}"


def read(staged: Staged, names: Sequence[str]) -> str:
    """What a manifest's files held, and to whom it goes."""
    of = f"{counted(len(staged.manifest.files), 'file')} of {staged.manifest.day}"
    batches = counted(len(staged.batches), "batch", "batches")
    if staged.reading is None:
        return f"{batches} of {of} lie staged from an earlier run, handing them over to {', '.join(names)}"
    aside = staged.reading.events_quarantined
    events = counted(staged.reading.events_batched, "event")
    return f"found {events} in {of}, handing them over to {', '.join(names)} in {batches}" + (
        f"; {counted(aside, 'bad stretch', 'bad stretches')} set aside in the quarantine, being no event "
        f"({_where_to_look(staged.manifest.day)})"
        if aside
        else ""
    )


def read_empty(staged: Staged) -> str:
    """The files hold no event."""
    files = f"{counted(len(staged.manifest.files), 'file')} of {staged.manifest.day} contained no valid events"
    aside = staged.reading.events_quarantined if staged.reading is not None else 0
    if not aside:
        return f"{files}: there is nothing to deliver"
    return (
        f"{files}: there is nothing to deliver; {counted(aside, 'bad stretch', 'bad stretches')} set aside "
        f"in the quarantine ({_where_to_look(staged.manifest.day)})"
    )


def delivered(name: str, done: Delivered) -> str:
    """What a subscriber has accepted."""
    totals = done.totals
    if not (totals.accepted or totals.refused or totals.filtered):
        return f"{name}: nothing to deliver of {done.manifest.day}, since the files contained no valid events"
    look = _where_to_look(done.manifest.day)
    refused = f", refused {totals.refused:,} (kept in the quarantine; {look})" if totals.refused else ""
    filtered = f", {totals.filtered:,} were filtered out" if totals.filtered else ""
    events, batches = counted(totals.accepted, "event"), counted(done.batches, "batch", "batches")
    took = _time_and_rate(totals.accepted, done.seconds)
    again = (
        "; a replay was requested meanwhile and is still owed: the next run delivers it" if done.is_asked_again else ""
    )
    return f"{name} accepted {events} of {done.manifest.day} in {batches} ({took}){refused}{filtered}{again}"


def stopped(name: str, done: Stopped) -> str:
    """Why a subscriber gets the rest from a later run."""
    how_far = f" after {done.accepted_batches:,} of {counted(done.batches, 'batch', 'batches')}" if done.batches else ""
    return f"{name}: stopped{how_far}, because {done.reason}; the rest stays owed, and the next run goes on with it"


def not_read(manifest_id: str, reason: str) -> str:
    """Why a manifest is left to a later run."""
    return f"manifest {manifest_id} is left to the next run, because {reason}"


def after_folding(manifests: int, keep_days: int) -> str:
    """What was folded of old days."""
    return (
        f"folded {counted(manifests, 'manifest')} of days more than {counted(keep_days, 'day')} ago: the ledger keeps "
        "their counts and checksums"
    )


def unreadable(outcome: ReadOutcome, max_attempts: int) -> str:
    """Which files of a manifest could not be read, why, and what happens next."""
    lines = [f"{printable(key)}: {printable(reason)}" for key, reason in outcome.unreadable.items()]
    fate = f"each {_tried_again(max_attempts)}"
    if outcome.quarantined:
        fate += f"; given up now and kept in the quarantine: {_some(outcome.quarantined)}"
    return f"{counted(len(lines), 'file')} could not be read ({fate}):\n" + "\n".join(lines)


def unreadable_files(found: Sequence[UnreadableFile]) -> str:
    """How many files a run could not read, the first one with its reason."""
    more = f" (and {counted(len(found) - 1, 'more file')})" if len(found) > 1 else ""
    first = f"{printable(found[0].key)}: {printable(found[0].reason)}"
    return f"{counted(len(found), 'file')} could not be read, all others were: {first}{more}"


def fate_of_unreadable(file: UnreadableFile, max_attempts: int) -> str:
    """What happens next to a file that could not be read."""
    if not file.is_tried_again:
        return f"nothing: it lies in the quarantine as a whole ({_where_to_look(file.day)})"
    return f"{_tried_again(max_attempts)} (so far {file.attempts})"


def backfill(day: str, planned: Backfill) -> list[str]:
    """What a backfill of a day found and what it delivers."""
    sentences = [*planned.found.notes, *found_odd(planned.found)]
    if planned.found.files:
        sentences.append(f"found {counted(planned.found.files, 'file')} of {day} that no run had seen")
    if not planned.manifests:
        return [*sentences, f"nothing of {day} is owed to the chosen subscribers"]
    if planned.repeated:
        sentences.append(f"{counted(planned.repeated, 'delivery', 'deliveries')} of {day} are made once more")
    return [*sentences, handing_on(planned.manifests)]


def unusable(name: str, reason: str) -> str:
    """A subscriber that cannot be set up."""
    return f"nothing is delivered to {name}, and what it is owed waits: {reason}"


def never_read(manifests: Sequence[str]) -> str:
    """Manifests that a re-execution left out."""
    shown = ", ".join(manifests[:_SHOWN_MANIFESTS])
    more = f" and {len(manifests) - _SHOWN_MANIFESTS:,} more" if len(manifests) > _SHOWN_MANIFESTS else ""
    was = "was" if len(manifests) == 1 else "were"
    return (
        f"{counted(len(manifests), 'manifest')} that the first run had taken {was} "
        "never read, neither by it nor by this re-execution: of a run that was killed Dagster repeats only what had "
        f"begun. They stay owed, and the next run of export_job delivers them: {shown}{more}"
    )


def day_without_a_run(one: AskedDay, names: Sequence[str]) -> str:
    """What becomes of a day whose run Dagster dropped."""
    return (
        f"backfill {one.backfill_id}: no run came to {one.day}, such as while the code server was away; its files are "
        f"owed to {', '.join(names)} now, and delivered by this run and the next ones"
    )


def _rate(done: Amount, seconds: float) -> str:
    return f" ({done.events / seconds:,.0f} events/s)" if seconds >= 1 else ""


def _time_and_rate(events: int, seconds: float) -> str:
    rate = f", {events / seconds:,.0f} events/s" if events and seconds > 0 else ""
    return f"{seconds:.{2 if seconds < 1 else 1}f} s{rate}"


def _tried_again(max_attempts: int) -> str:
    return f"is tried alone in later runs, {max_attempts} times in all, then quarantined as a whole"


def _where_to_look(day: date) -> str:
    return f"export-pipeline quarantine list --day {day}"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(map(printable, keys))


def listed(noticed: Noticed) -> str:
    """Why the source was listed, and whether that came to its end."""
    goes_on = "" if noticed.is_listed_to_the_end else "; it goes on in the next run"
    return f"the source was listed beside its queue, because {noticed.why_listed}{goes_on}"


def taken(found: Taken) -> str:
    """What the messages came to."""
    parts = [f"{counted(found.files, 'new file')}"]
    parts += [f"{counted(found.known, 'file')} known already"] if found.known else []
    parts += [f"{counted(found.gone, 'file')} that {_be(found.gone)} there no longer"] if found.gone else []
    others = sum(found.other.values())
    names = ", ".join(sorted(found.other)[:5])
    parts += [f"{counted(others, 'event')} of another kind ({names})"] if others else []
    return f"took {counted(found.messages, 'message')}: {', '.join(parts)}"


def nothing(noticed: Noticed, frequency: str) -> str:
    """Nothing was found."""
    return (
        f"found no new file: the queue told of none, and the next listing is due at "
        f"{noticed.next_listing_at:%Y-%m-%d %H:%M} UTC; if this is usual, poll less often (frequency is {frequency})"
    )


def odd(found: Taken) -> list[str]:
    """Sentences about messages that a person may want to look after."""
    sentences = []
    if found.foreign:
        sentences.append(
            f"{counted(found.foreign, 'file')} outside of this source {_be(found.foreign, True)} told of, such as "
            f"{', '.join(map(printable, found.foreign_keys))}; the messages are removed: this queue must serve this "
            "export alone"
        )
    if found.unseen_files:
        key, reason = next(iter(found.unseen.items()))
        sentences.append(
            f"the store would not tell of {counted(found.unseen_files, 'file')}, whose messages stay in the queue: "
            f"{printable(key)}: {printable(reason)}"
        )
    if found.undeleted:
        sentences.append(
            f"{counted(found.undeleted, 'message')} could not be removed from the queue and will come again; the "
            "ledger knows their files"
        )
    return sentences


def wrong(found: Taken) -> str:
    """Which messages could not be understood, and what becomes of them."""
    fate = (
        "kept in the quarantine under notifications/ and removed from the queue"
        if found.wrong_are_kept
        else "left to the queue, which hands them out again until its dead-letter queue takes them or, without one, "
        "they expire"
    )
    lines = [f"{printable(identity)}: {reason}" for identity, reason in found.wrong.items()]
    return f"{counted(found.wrong_messages, 'message')} could not be understood ({fate}):\n" + "\n".join(lines)


def _be(number: int, past: bool = False) -> str:
    singular, plural = ("was", "were") if past else ("is", "are")
    return singular if number == 1 else plural
