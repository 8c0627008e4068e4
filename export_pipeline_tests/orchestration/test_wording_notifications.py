"""What the event log says of messages: nothing that whoever may send to the queue could forge lines with."""

from export_pipeline.orchestration import wording
from export_pipeline.steps.messages import Taken

EVIL = "a\n2026-11-23 ERROR \x1b[2J\u202eforged"


def test_keys_of_messages_are_printable() -> None:
    """A key with a line end, an escape sequence or a mark of direction is shown by what it is, on one line."""
    taken = Taken(foreign=2, foreign_keys=[f"other/{EVIL}"], unseen_files=1, unseen={EVIL: EVIL}, undeleted=3)
    outside, unseen, undeleted = wording.odd(taken)
    assert outside.startswith(r"2 files outside of this source were told of, such as other/a\n2026")
    assert r"1 file, whose messages stay in the queue: a\n2026-11-23 ERROR \x1b[2J\u202eforged: a\n" in unseen
    assert undeleted.startswith("3 messages could not be removed from the queue and will come again")
    assert all(sentence.isprintable() for sentence in (outside, unseen, undeleted))


def test_what_becomes_of_messages_that_nobody_understands_is_told() -> None:
    """Each of the first is named with its reason, and whether the quarantine or the queue keeps them."""
    taken = Taken(wrong={EVIL: "it is not a JSON object"}, wrong_messages=7)
    head, line = wording.wrong(taken).split("\n")
    assert head.startswith("7 messages could not be understood (left to the queue, which hands them out again until")
    assert line == r"a\n2026-11-23 ERROR \x1b[2J\u202eforged: it is not a JSON object"
    taken.wrong_are_kept = True
    assert "(kept in the quarantine under notifications/ and removed" in wording.wrong(taken)
