"""How `export-pipeline follow` paces itself, look by look and without a run."""

from typing import Any

import pytest

from export_pipeline.cli import follow
from export_pipeline.errors import ListingFailed
from export_pipeline.steps.lookout import Seen


class _Enough(Exception):
    """Ends a loop that would go on for ever."""


class _Runner:
    def say(self, text: str) -> None:
        """Nobody listens."""


def test_a_source_that_fails_for_days_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a look fails, the next one comes after a minute at most."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3_000:
            raise _Enough

    def fails(_self: object, _lookout: object) -> str:
        raise ListingFailed("the source cannot be listed")

    monkeypatch.setattr(follow, "sleep", sleep)
    monkeypatch.setattr(follow._Follower, "_reason_to_run", fails)
    runner: Any = _Runner()
    source: Any = None
    with pytest.raises(_Enough):
        follow._Follower(runner, source, None).go_on(0.1)
    assert slept[0] == pytest.approx(0.2)
    assert max(slept) == slept[-1] == 60


def test_a_file_that_no_run_plans_starts_no_run_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is still new after a run is a reason for another one only minutes later; another file at once."""
    seen = Seen("2026/11/23/a", "e")

    class Lookout:
        def look(self, *_: object, **__: object) -> Seen:
            return seen

    class Runner(_Runner):
        deployment: Any = None
        ledger: Any = None
        instance: Any = None

    class Source:
        url = "file:///bucket"

    monkeypatch.setattr("export_pipeline.orchestration.schedule.reason_to_skip", lambda *_, **__: None)
    monkeypatch.setattr("export_pipeline.steps.lookout.gets_on", lambda *_: False)
    monkeypatch.setattr("export_pipeline.steps.open.discovery_settings", lambda *_: None)
    monkeypatch.setattr("export_pipeline.orchestration.new_files._SLOT_SECONDS", 10**9)
    monkeypatch.setattr(follow._Follower, "_due", lambda *_: "")
    runner: Any = Runner()
    source: Any = Source()
    lookout: Any = Lookout()
    one = follow._Follower(runner, source, None)
    assert one._reason_to_run(lookout) == "a new file, 2026/11/23/a"
    assert one._reason_to_run(lookout) == ""
    seen = Seen("2026/11/23/b", "e")
    assert one._reason_to_run(lookout) == "a new file, 2026/11/23/b"
