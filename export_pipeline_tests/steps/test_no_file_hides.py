"""Whatever people and other deployments do to cursor, subscribers and settings: in the end every file is planned."""

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from export_pipeline_tests.steps.exporting import SETTINGS, Export

FIRST_DAY = date(2026, 11, 10)
START = datetime(2026, 11, 20, tzinfo=timezone.utc)
MAX_FILES = 4
MOST_RUNS = 50

cursors = st.one_of(
    st.sampled_from(["", "nonsense", "2099/01/01", "2026/11/10", "events/2026/11/12", "(ledger 0123abcd)"]),
    st.builds(
        "2026/11/{:02}/00/x.json{}".format, st.integers(1, 30), st.sampled_from(["", " (ledger 0123abcd)", "\n", " "])
    ),
)


class ListedByMany(RuleBasedStateMachine):
    """An export of few files a run; files arrive no later than the lookback allows, and everything else is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.export = Export(Path(self.folder.name), str(Path(self.folder.name) / "ledger.db"))
        self.export.settings = replace(SETTINGS, start_date=FIRST_DAY)
        self.keys: list[str] = []
        self.now = START
        for hours in range(240, 0, -16):
            self.arrives(START - timedelta(hours=hours))

    def teardown(self) -> None:
        """Once nothing waits, every file is planned."""
        try:
            self.export.settings = replace(self.export.settings, start_date=FIRST_DAY)
            for _ in range(MOST_RUNS):
                if not self.export.run(max_files=MAX_FILES, now=self.now).more:
                    break
            else:
                raise AssertionError(f"{MOST_RUNS} runs did not list {len(self.keys)} files")
            assert sorted(self.export.planned()) == sorted(self.keys)
        finally:
            self.export.ledger.close()
            self.folder.cleanup()

    def arrives(self, moment: datetime) -> None:
        self.keys.append(f"{moment:%Y/%m/%d/%H}/{len(self.keys)}.json")
        self.export.put(self.keys[-1])

    @rule(hours_late=st.integers(0, 24))
    def a_file_arrives(self, hours_late: int) -> None:
        self.arrives(self.now - timedelta(hours=hours_late))

    @rule(hours=st.integers(0, 40))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(cursor=cursors)
    def the_cursor_is_edited(self, cursor: str) -> None:
        self.export.cursor = cursor

    @rule(day=st.integers(10, 20))
    def start_date_is_changed(self, day: int) -> None:
        self.export.settings = replace(self.export.settings, start_date=date(2026, 11, day))

    @rule(since=st.sampled_from([None, "beginning", "now", "2026-11-15"]))
    def a_second_subscriber_is_configured(self, since: str | None) -> None:
        self.export.subscribers = {"crm": "beginning", "dwh": since}

    @rule()
    def the_second_subscriber_is_removed(self) -> None:
        self.export.subscribers = {"crm": "beginning"}

    @rule(day=st.integers(10, 20))
    def a_day_is_asked_for(self, day: int) -> None:
        self.export.ask_for(date(2026, 11, day))

    @rule()
    def a_run_is_made(self) -> None:
        self.export.run(max_files=MAX_FILES, now=self.now)

    @invariant()
    def nothing_is_planned_twice(self) -> None:
        planned = self.export.planned()
        assert len(planned) == len(set(planned))


ListedByMany.TestCase.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=12, deadline=None
)
test_no_file_hides = ListedByMany.TestCase
