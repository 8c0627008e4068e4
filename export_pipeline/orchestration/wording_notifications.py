"""The sentences of the event log about messages that tell of new files."""

from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.steps.messages import Taken
from export_pipeline.steps.notified import Noticed


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
