"""What happens: each scenario in a line or two, and what it comes to where no process dies."""

from datetime import date

from export_pipeline.source.file import ReadLimits
from export_pipeline_tests.simulation.story import (
    Scenario,
    Step,
    answers,
    backfill,
    cursor,
    days_pass,
    dismiss,
    fold,
    message,
    overwrite,
    put,
    rebuild,
    remove,
    retry,
    rules,
    run,
    subscribers,
    wipe,
)
from export_pipeline_tests.simulation.world import FRAMINGS

SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, *steps: Step, needs: tuple[str, ...] = (), **shows: int) -> None:
    """Tell a story."""
    assert name not in SCENARIOS
    SCENARIOS[name] = Scenario(name, steps, shows, needs)


TWO = (put("22/a", 1), put("22/b", 1))
CORRUPT = (put("22/a", 1), put("22/b", corrupt=True), put("22/c", 1))
EARLY = (put("20/a"), put("22/b"))
OLD = (rules(keep_days=2), *TWO, run, days_pass(10), fold)
changed = rules(on_overwrite="changed")
more, same = put("22/a", 3, keeps=1), put("22/a", 2, keeps=2)
bad, mended = put("22/a", 1, garbage=2), put("22/a", 2)
worse = put("22/a", 3, keeps=1, garbage=1)
marked = put("22/a", 4, marked=1)
one_by_one = rules(max_files=1, manifest_max_files=1)
vanish = remove("22/b")
down, well = answers("a", is_down=True), answers("a")
refuses, halves = answers("a", refuses="index"), answers("a", refuses="whole")
views, clicks = answers("a", only="view"), answers("a", only="click")
newcomer = subscribers(a=None, b=None, c="beginning")
replay = backfill(22, again=True)
alone, both, three = subscribers(a=None), subscribers(a=None, b="beginning"), subscribers(a=None, b=None, c=None)
tight = rules(limits=ReadLimits(max_event_bytes=20))
late, earlier = rules(start_date=date(2026, 11, 21)), rules(start_date=date(2026, 11, 1))

# Reading -------------------------------------------------------------------------------------------------------------

scenario(
    "every framing",
    rules(max_events=100),
    *(put(f"22/{number:02}", framing=framing) for number, framing in enumerate(FRAMINGS)),
    run,
    a=24,
    b=24,
)
for _framing in FRAMINGS:
    _number = 0 if _framing == "empty" else 3
    scenario(f"framing: {_framing}", put("22/a", 3, framing=_framing), run, a=_number, b=_number)
scenario("the first run of all", wipe("ledger.db*"), *TWO, run, a=2, b=2)
scenario("files of two days", put("22/a"), put("22/b", 3), put("23/c"), run, run, a=7, b=7)
scenario("a late file", put("22/b"), run, put("22/a"), run, a=4)
scenario("more files than a run takes", rules(max_files=1), *TWO, put("22/c"), run, run, run, a=4, b=4)
scenario("a manifest of each file", rules(manifest_max_files=1), *TWO, run, read=2)
scenario("corrupt", *CORRUPT, run, run, run, run, given_up=1)
scenario("corrupt, repaired at once", *CORRUPT, run, put("22/b"), run, a=4, b=4)
scenario("corrupt, given up, repaired", *CORRUPT, run, run, run, put("22/b"), run, a=4)
scenario("corrupt, given up, retried", *CORRUPT, run, run, run, retry, run, retried=1, given_up=1)
scenario("corrupt, given up, repaired, retried", *CORRUPT, run, run, run, put("22/b"), retry, run, a=4, b=4)
scenario("corrupt alone", put("22/a", corrupt=True), run, run, run, given_up=1)
scenario("two corrupt of four", *CORRUPT, put("22/d", corrupt=True), run, run, run, given_up=2)
scenario("bad lines", put("22/a", 3, garbage=2), put("22/b", garbage=1), run, stretch=3)
scenario("nothing but bad lines", put("22/a", 0, garbage=2), run, stretch=2)
scenario(
    "bad lines beside a corrupt file",
    put("22/a", 3, garbage=2),
    put("22/b", corrupt=True),
    run,
    run,
    stretch=2,
    superseded=1,
)
scenario("bad lines, retried, mended before the next run", bad, run, retry, mended, run, stretch=0, a=3)
scenario("bad lines, dismissed", put("22/a", 3, garbage=2), run, dismiss, run, stretch=0, dismissed=2)
scenario("bad lines, repaired", put("22/a", garbage=2), run, put("22/a"), run, stretch=0, a=4)
scenario("corrupt, given up, dismissed", *CORRUPT, run, run, run, dismiss, run, a=2, file=0, dismissed=1)
scenario("bad lines, retried", put("22/a", garbage=2), run, retry, run, retried=2)
scenario("overwritten", *TWO, run, put("22/a", 3), run, a=5)
scenario("overwritten before it is read", down, *TWO, run, put("22/a", 3), run, a=5, b=5)
scenario(
    "overwritten, ignored, wanted after all",
    rules(on_overwrite="ignore"),
    *TWO,
    run,
    put("22/a", 3),
    run,
    rules(on_overwrite="read"),
    backfill(22),
    run,
    a=5,
    b=5,
)
scenario("overwritten, its changed lines", changed, *TWO, run, more, run, run, a=4, b=4)
scenario("overwritten, its changed lines, while one is down", changed, down, *TWO, run, more, run, well, run, a=4, b=4)
scenario("overwritten, its changed lines, a newcomer", changed, *TWO, run, more, run, newcomer, run, run, a=4, c=4)
scenario("overwritten with the same lines and fewer", changed, put("22/a", 3), run, same, run, run, a=3, b=3)
scenario("overwritten, its changed and bad lines", changed, *TWO, run, worse, run, run, a=4, b=4, stretch=1)
scenario("vanished", one_by_one, *TWO, run, vanish, run, a=1)
scenario("vanished and back", down, *TWO, run, vanish, well, run, put("22/b", 3), run, b=5)
scenario("limits changed between two tries", down, *TWO, run, wipe("staging"), well, tight, run, a=2, b=2)

# Delivering ----------------------------------------------------------------------------------------------------------

scenario(
    "three subscribers, three batches in flight",
    rules(in_flight=3),
    three,
    put("22/a", 5),
    put("22/b", 3),
    run,
    a=8,
    b=8,
    c=8,
)
scenario("a busy subscriber", answers("a", later=2), put("22/a", 5), run, run, a=5, b=5)
scenario("a lost answer", answers("b", loses=1), put("22/a", 5), run, run, lost_answers=1)
scenario("one subscriber is down", down, *TWO, run, put("22/c"), run, well, run, a=4)
scenario("events refused by name", refuses, marked, put("22/b", 3, marked=2), run, refused=3)
scenario("events refused by halving", halves, marked, put("22/b", 3, marked=1), run, refused=2)
scenario("all events refused", refuses, put("22/a", 2, marked=2), run, refused=2)
scenario("refused, mended, retried", refuses, marked, run, well, retry, run, a=4, b=4)
scenario("refused, retried, refused again", refuses, marked, run, retry, run, refused=1, retried=1)
scenario("refused by halving, mended, retried", halves, marked, run, well, retry, run, a=4)
scenario("refused, dismissed", refuses, marked, run, dismiss, run, refused=0, dismissed=1)
scenario("refused, mended, replayed", refuses, marked, run, well, replay, run, refused=1, repeated=2)
scenario(
    "refused, mended, retried, replayed", halves, marked, run, well, retry, run, replay, run, refused=0, repeated=3
)
scenario("a filter", views, put("22/a"), run, a=1, b=2)
scenario("a filter that leaves nothing", views, put("22/a", 1), answers("b", only="none"), run, a=1, b=0)
scenario("a filter that is changed", views, put("22/a"), run, clicks, put("22/b"), run, a=2)

# Who receives --------------------------------------------------------------------------------------------------------

scenario("a subscriber added", *TWO, run, newcomer, put("22/c"), run, c=4)
scenario("a subscriber added from now on", *TWO, run, subscribers(a=None, b=None, c="now"), run, c=0)
scenario("a subscriber added from a day on", *EARLY, run, subscribers(a=None, b=None, c="2026-11-21"), run, c=2)
scenario("a subscriber added beside a corrupt file", *CORRUPT, run, newcomer, run, c=2, superseded=1)
scenario("a subscriber removed", *TWO, run, alone, put("22/c"), run, a=4, b=2)
scenario("a subscriber removed and put back", both, *TWO, run, alone, put("22/c"), run, both, run, a=4, b=4)
scenario("a subscriber renamed", *TWO, run, subscribers(a=None, new="beginning"), run, new=2)
scenario("a start moved earlier", subscribers(a="2026-11-22"), *EARLY, run, subscribers(a="2026-11-20"), run, a=4)
scenario("a start moved later", one_by_one, down, *EARLY, run, subscribers(a="2026-11-21", b=None), well, run, a=2, b=4)
scenario("source.start_date moved earlier", late, *EARLY, run, earlier, run, a=4, b=4)
scenario("a file vanishes before a newcomer reads it", *TWO, run, vanish, newcomer, run, run, run, c=1, parts=2)
scenario(
    "a file vanishes, and is back for the newcomer",
    *TWO,
    run,
    vanish,
    newcomer,
    run,
    run,
    run,
    put("22/b"),
    retry,
    run,
    parts=2,
)

# Replays, folding, the ledger ----------------------------------------------------------------------------------------

scenario("backfill of what is missing", put("22/b"), run, put("20/a"), backfill(20), run, a=4, b=4)
scenario("backfill for one", subscribers(a=None, b="now"), *TWO, run, backfill(22, chosen=("b",)), run, b=2)
scenario("replay", *TWO, run, replay, run, repeated=2)
scenario("replay for one", *TWO, run, backfill(22, again=True, chosen=("a",)), run, repeated=1)
scenario("replay of what is half delivered", put("22/a", 5), run, down, replay, well, replay, run, repeated=3)
scenario("refused, replayed, refused again", refuses, marked, run, replay, replay, run, refused=1, repeated=4)
scenario("folded", *OLD, run, folded=1)
scenario("folded by a run", rules(keep_days=2), *TWO, run, days_pass(10), run, folded=1)
scenario("folded, a late file", *OLD, put("22/c"), run, a=4, b=4)
scenario("folded, overwritten", *OLD, put("22/a", 3), run, a=5)
scenario("folded, replayed", *OLD, rules(keep_days=None), replay, run, repeated=2)
scenario("folded, a newcomer", *OLD, newcomer, run, c=2)
scenario("folded, a file vanished, a newcomer", *OLD, vanish, newcomer, run, run, run, c=1, file=1)
scenario("staging wiped", down, *TWO, run, wipe("staging"), well, run, a=2, b=2)
scenario("the ledger lost and rebuilt", *TWO, run, wipe("ledger.db*"), rebuild, run, delivered=2)
scenario("the cursor cleared", *TWO, run, cursor(""), put("22/c"), run, a=4)
scenario("the cursor ahead", *TWO, run, cursor("2026/11/22/zzz"), put("22/c"), run, a=4)
scenario("the cursor back", put("22/a"), run, put("10/b"), cursor("2026/11/01"), run, a=4)
scenario("the cursor of another ledger", *TWO, run, cursor("2026/12/22/z (ledger 01234567)"), put("22/c"), run, a=4)
scenario("a cursor that is none", *TWO, run, cursor("\u2603 garbage"), put("22/c"), run, a=4)

# Messages of new files, and subscribers of the product itself ---------------------------------------------------------

_NOTIFIED = (rules(is_notified=True), *TWO, run)
scenario("messages", *_NOTIFIED, put("22/c"), run, a=4, b=4)
scenario("messages that come twice", *_NOTIFIED, put("22/c", messages=2), run, a=4, b=4)
scenario("a message is lost", *_NOTIFIED, put("22/c", messages=0), days_pass(2), run, a=4, b=4)
scenario("a message that is none", *_NOTIFIED, message("garbage"), put("22/c"), run, a=4, b=4)
scenario("a message of a file that is gone", *_NOTIFIED, put("22/c"), remove("22/c"), put("22/d"), run, a=4, b=4)
scenario("messages, overwritten", *_NOTIFIED, put("22/a", 3), put("22/a", 1), run, a=3, b=3)
scenario("messages, corrupt, repaired", *_NOTIFIED, put("22/c", corrupt=True), run, put("22/c"), run, a=4, b=4)

_files = subscribers(files=None, b=None)
scenario("files", _files, put("22/a", 5), run, put("22/b"), run, files=7, b=7)
scenario("files, staging wiped", _files, answers("b", is_down=True), *TWO, run, wipe("staging"), run, files=2)
scenario(
    "a delivered file that is the staged one is overwritten",
    _files,
    answers("b", is_down=True),
    *TWO,
    run,
    overwrite("files/**/*.ndjson", b'{"n": "spoiled"}\n'),
    subscribers(b=None),
    answers("b"),
    run,
    b=2,
    files=1,
)
scenario(
    "a warehouse", subscribers(warehouse=None), put("22/a", 3), run, warehouse=3, needs=("dlt", "duckdb", "pyarrow")
)
