"""Progress: when it is reported, and what it costs."""

from dataclasses import replace

import pytest

from export_pipeline.orchestration import wording
from export_pipeline.steps.progress import Amount, Progress, RunProgress


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_is_told_every_ten_seconds_at_most(clock: Clock) -> None:
    """However often work advances, it is reported ten seconds after it began, and then ten seconds apart."""
    told: list[tuple[float, int]] = []
    progress = Progress(lambda done, planned: told.append((clock.now, done.events)), clock=clock)
    progress.begin(events=1_000)
    for _ in range(250):
        clock.now += 0.1
        progress.advance(events=4)
    assert [round(moment, 1) for moment, _ in told] == [1_010.0, 1_020.0]
    assert [events for _, events in told] == [400, 800]


def test_short_work_is_not_told(clock: Clock) -> None:
    """What is done in less than ten seconds is never reported: its last line says it all."""
    progress = Progress(lambda done, planned: pytest.fail("reported"), clock=clock)
    clock.now += 9.9
    progress.advance(files=1)


def test_a_slow_step_is_told_once(clock: Clock) -> None:
    """A minute without an advance is reported once, not six times."""
    told: list[Amount] = []
    progress = Progress(lambda done, planned: told.append(replace(done)), clock=clock)
    clock.now += 60
    progress.advance(files=1)
    progress.advance(files=1)
    assert told == [Amount(files=1)]


def test_beginning_anew_forgets_what_was_done(clock: Clock) -> None:
    """When a manifest is read again without a broken file, its numbers begin at nothing; the pause is kept."""
    told: list[tuple[Amount, Amount]] = []
    progress = Progress(lambda done, planned: told.append((replace(done), replace(planned))), clock=clock)
    progress.begin(files=2, size_bytes=20)
    progress.count(files=1, size_bytes=10)
    clock.now += 10
    progress.advance(events=3)
    progress.begin(files=1, size_bytes=10)
    clock.now += 5
    progress.advance(events=1)
    clock.now += 5
    progress.advance(events=1)
    assert told == [
        (Amount(files=1, events=3, size_bytes=10), Amount(files=2, size_bytes=20)),
        (Amount(events=2), Amount(files=1, size_bytes=10)),
    ]


def test_the_sentences() -> None:
    """Each sentence names what is done of what was planned, and the rate once there is one."""
    done, planned = Amount(files=12, events=340_000, size_bytes=1_200_000_000), Amount(500, 400_000, 4_800_000_000)
    assert wording.listed_so_far(Amount(files=120_000)) == "listing: 120,000 keys so far"
    assert wording.read_so_far(done, planned, 10) == (
        "reading: 12 of 500 files, 1.2 GB of 4.8 GB as stored, 340,000 events so far (34,000 events/s)"
    )
    assert wording.delivered_so_far("crm", done, planned, 0.5) == (
        "crm has accepted 340,000 of 400,000 events, 1.2 GB of 4.8 GB so far"
    )


def test_a_run_is_told_every_ten_seconds_at_most(clock: Clock) -> None:
    """A run of many short manifests is reported every ten seconds, with what each subscriber has and the plan."""
    told: list[tuple[float, int, int]] = []
    planned = {"crm": Amount(files=300), "archive": Amount(files=300)}
    progress = RunProgress(
        planned,
        lambda done, planned: told.append((clock.now, done["crm"].files, done["archive"].files)),
        clock=clock,
    )
    for _ in range(250):
        clock.now += 0.1
        progress.delivered("crm", files=1, events=10, size_bytes=100)
    assert [(round(moment, 1), crm, archive) for moment, crm, archive in told] == [(1_010.0, 100, 0), (1_020.0, 200, 0)]
    assert progress.done["crm"] == Amount(files=250, events=2_500, size_bytes=25_000)
