"""What the event log says about messages: anyone who may send to the queue cannot forge lines with it."""

from export_pipeline.orchestration import wording
from export_pipeline.steps.messages import Taken

EVIL = "a\n2026-11-23 ERROR \x1b[2J\u202eforged"


def test_keys_of_messages_are_printable() -> None:
    """A key with a line end, an escape sequence or a mark of direction is shown by what it is, on one line."""
    taken = Taken(foreign=2, foreign_keys=[f"other/{EVIL}"], unseen_files=1, unseen={EVIL: EVIL}, undeleted=3)
    outside, unseen, undeleted = wording.odd(taken)
    assert outside.startswith(r"the queue announced 2 files outside this source, such as other/a\n2026")
    assert r"1 file; the messages stay in the queue: a\n2026-11-23 ERROR \x1b[2J\u202eforged: a\n" in unseen
    assert undeleted.startswith("3 messages could not be deleted from the queue and will be received again")
    assert all(sentence.isprintable() for sentence in (outside, unseen, undeleted))


def test_the_fate_of_invalid_messages_is_logged() -> None:
    """Each of the first is named with its reason, and whether the quarantine or the queue keeps them."""
    taken = Taken(wrong={EVIL: "it is not a JSON object"}, wrong_messages=7)
    head, line = wording.wrong(taken).split("\n")
    assert head.startswith("7 invalid messages (left in the queue, which redelivers them until")
    assert line == r"a\n2026-11-23 ERROR \x1b[2J\u202eforged: it is not a JSON object"
    taken.wrong_are_kept = True
    assert "(quarantined under notifications/ and deleted" in wording.wrong(taken)
