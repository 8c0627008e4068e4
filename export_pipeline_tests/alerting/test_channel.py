"""What is sent to a channel, and how often."""

import pytest

from export_pipeline.alerting.channel import MOST_KEPT, Channel, ChannelState, hear
from export_pipeline.alerting.happening import CRITICAL, ERROR, INFO, WARNING, AlertMessage, Failing, Happening, Line

HOUR = 3600.0
NOW = 1_795_000_000.0  # 2026-11-18 10:26:40 UTC


class Listener:
    """A channel with its state and a clock."""

    def __init__(self, level: int = ERROR, *, only_runs: bool = False) -> None:
        self.channel = Channel("CHAT", level, only_runs, repeat_after_seconds=HOUR)
        self.state = ChannelState()
        self.now = NOW

    def hear(self, happening: Happening, *, minutes_later: float = 0) -> AlertMessage | None:
        """The message that it is sent, if any."""
        self.now += minutes_later * 60
        hear(self.channel, self.state, happening, export="shop", ui_url="https://dagster.test", now=self.now)
        messages, self.state.outbox = self.state.outbox, []
        assert len(messages) <= 1
        return messages[0] if messages else None


def failed(op: str = "deliver_to_crm", text: str = "503", *, level: int = ERROR) -> Happening:
    problem = Failing(f"export_job/{op}", level, f"{op} of export_job", f"{op}: {text}")
    return Happening("run 1a2b3c4d of export_job", path="/runs/1a2b3c4d", problems=(problem,))


def line(text: str, *, key: str = "", level: int = ERROR) -> Line:
    return Line(key or text, level, text)


FINE = Happening("run 5e6f7a8b of export_job", fine=("export_job/",))


def test_a_failure_is_told_with_its_cause_and_a_link() -> None:
    """The message names deployment, run, op and cause, and leads to the run."""
    message = Listener().hear(failed())
    assert message == AlertMessage(
        "[shop] run 1a2b3c4d of export_job failed",
        "deliver_to_crm: 503\nhttps://dagster.test/runs/1a2b3c4d",
        "failure",
    )


def test_the_same_failure_is_held_back() -> None:
    """What fails every ten minutes is reported once, and again an hour later with the number of failures."""
    crm = Listener()
    assert crm.hear(failed()) is not None
    assert [crm.hear(failed(), minutes_later=10) for _ in range(5)] == [None] * 5
    again = crm.hear(failed(), minutes_later=10)
    assert again is not None
    assert "(still failing, 7 times since 2026-11-18 " in again.body


def test_another_failure_is_not_held_back() -> None:
    """A second op that fails is reported at once, without repeating the first one."""
    crm = Listener()
    crm.hear(failed())
    message = crm.hear(failed("deliver_to_dwh", "401"), minutes_later=10)
    assert message is not None
    assert message.body.startswith("deliver_to_dwh: 401")
    assert "crm" not in message.body


def test_recovery_is_told_once() -> None:
    """When what failed succeeds again, that is sent with the number of failures; nothing is sent before and after."""
    crm = Listener()
    assert crm.hear(FINE) is None
    crm.hear(failed())
    crm.hear(failed(), minutes_later=10)
    message = crm.hear(FINE, minutes_later=10)
    assert message is not None
    assert message.kind == "success"
    assert message.title == "[shop] recovered: run 5e6f7a8b of export_job"
    assert message.body == "deliver_to_crm of export_job recovered; it failed 2 times since 2026-11-18 11:06 UTC"
    assert crm.hear(FINE, minutes_later=10) is None
    assert crm.hear(failed(), minutes_later=10) is not None


def test_one_of_two_recovers_while_the_other_fails() -> None:
    """A run in which one op fails and another is well again tells of both in one message."""
    crm = Listener()
    crm.hear(failed())
    both = failed("deliver_to_dwh")
    message = crm.hear(Happening(both.subject, problems=both.problems, fine=("export_job/deliver_to_crm",)))
    assert message is not None
    assert message.body.splitlines() == [
        "deliver_to_dwh: 503",
        "",
        "deliver_to_crm of export_job recovered; it failed once since 2026-11-18 11:06 UTC",
    ]


def test_what_is_not_lasting_is_told_whenever_it_happens() -> None:
    """Two backfills that fail are two messages, and nothing of them is remembered."""
    crm = Listener()
    ended = Happening("backfill abc", problems=(Failing("backfill abc/end", ERROR, "x", "failed", is_lasting=False),))
    assert crm.hear(ended) is not None
    assert crm.hear(ended) is not None
    assert crm.state.open == {}


def test_what_is_over_is_forgotten_in_silence() -> None:
    """When a backfill ends, the problems of its runs are forgotten silently."""
    crm = Listener()
    crm.hear(Happening("run", problems=(Failing("backfill abc/deliver_to_crm", ERROR, "x", "failed"),)))
    assert crm.hear(Happening("backfill abc", over=("backfill abc/",))) is None
    assert crm.state.open == {}


@pytest.mark.parametrize(("level", "told"), [(INFO, True), (ERROR, True), (CRITICAL, False)])
def test_the_level_decides_about_failures(level: int, told: bool) -> None:
    """A failure below the channel's level is not told, and neither is its recovery."""
    crm = Listener(level)
    assert (crm.hear(failed()) is not None) is told
    assert (crm.hear(FINE) is not None) is told


def test_lines_are_gathered_into_one_message() -> None:
    """The lines of a run at or above the level come in one message, with their levels; the others do not come."""
    crm = Listener(WARNING)
    lines = (line("read_batches: a", level=WARNING), line("b", level=ERROR), line("c", level=INFO))
    message = crm.hear(Happening("run 1a2b3c4d of export_job", lines=lines))
    assert message is not None
    assert message.title == "[shop] run 1a2b3c4d of export_job: error"
    assert message.body == "WARNING read_batches: a\nERROR b"


def test_lines_come_with_the_failure_of_their_run() -> None:
    """A run that failed and has log lines is one message."""
    message = Listener().hear(Happening("run 1", problems=failed().problems, lines=(line("could not be read: x"),)))
    assert message is not None
    assert message.body == "deliver_to_crm: 503\n\nERROR could not be read: x"


def test_a_sentence_is_not_repeated() -> None:
    """The same sentence of later runs is held back for the same time; a different one is sent alone."""
    crm = Listener(WARNING)
    crm.hear(Happening("run 1", lines=(line("found no new file since 10:00", key="k", level=WARNING),)))
    assert crm.hear(Happening("run 2", lines=(line("found no new file since 10:10", key="k", level=WARNING),))) is None
    message = crm.hear(Happening("run 3", lines=(line("…", key="k"), line("new"))), minutes_later=10)
    assert message is not None
    assert message.body == "ERROR new"
    assert crm.hear(Happening("run 4", lines=(line("…", key="k"),)), minutes_later=55) is not None


def test_only_runs_leaves_the_lines_out() -> None:
    """A channel with only_runs gets failures, but no log lines."""
    crm = Listener(only_runs=True)
    assert crm.hear(Happening("run 1", lines=(line("x"),))) is None
    message = crm.hear(Happening("run 1", problems=failed().problems, lines=(line("x"),)))
    assert message is not None
    assert message.body == "deliver_to_crm: 503"


def test_a_long_message_is_cut() -> None:
    """However much a run has to say, a message stays below 2,000 characters, and says how much is missing."""
    lines = tuple(line(f"{n} " + "x" * 1_000) for n in range(100))
    message = Listener().hear(Happening("run 1", path="/runs/1", lines=lines))
    assert message is not None
    assert len(message.body) <= 1_500
    assert message.body.splitlines()[-2].startswith("… and 9")
    assert message.body.endswith("https://dagster.test/runs/1")


def test_a_full_outbox_counts_what_it_does_not_keep() -> None:
    """While an address takes nothing, the first messages are kept and the later ones counted."""
    state = ChannelState()
    for n in range(MOST_KEPT + 3):
        state.post(AlertMessage(str(n), "", "info"))
    assert [message.title for message in state.outbox] == ["0", "1", "2", "3", "4"]
    assert state.lost == 3


def test_what_is_remembered_is_bounded() -> None:
    """A thousand different problems and lines do not make the sensor's cursor grow without limit; all are reported."""
    crm = Listener()
    for n in range(1_000):
        assert crm.hear(Happening("run", problems=(Failing(f"k{n}", ERROR, "", "x"),), lines=(line(str(n)),)))
    assert len(crm.state.open) == 200
    assert len(crm.state.lines) == 200
