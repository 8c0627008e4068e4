"""What is sent: a title, a few lines, and how bad it is."""

from dataclasses import dataclass

from export_pipeline.alerting.happening import CRITICAL, ERROR, INFO, WARNING, Kind

_LONGEST_TITLE = 200
# Discord takes 2,000 characters, and an alert that has more to say says where to look.
_LONGEST_BODY = 1_500
_LONGEST_LINE = 400
_NAMES = {INFO: "info", WARNING: "warning", ERROR: "error", CRITICAL: "critical"}


@dataclass(frozen=True, slots=True)
class Message:
    """One message, the same for every service."""

    title: str
    body: str
    kind: Kind


def compose(title: str, text: str, *, kind: Kind, link: str = "") -> Message:
    """A message of at most 1,500 characters: what is too long is cut, and the link is kept."""
    lines = [_cut(line, _LONGEST_LINE) for line in text.splitlines()]
    room = _LONGEST_BODY - len(link) - 40
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    if len(kept) < len(lines):
        kept.append(f"… and {len(lines) - len(kept)} more lines")
    body = "\n".join([*kept, *([link] if link else [])])
    return Message(_cut(" ".join(title.split()), _LONGEST_TITLE), body or title, kind)


def kind_of(level: int) -> Kind:
    """How a message of this level looks."""
    if level >= ERROR:
        return "failure"
    return "warning" if level >= WARNING else "info"


def name_of(level: int) -> str:
    """The level's name: that of the nearest one below, where it is none of the four."""
    return _NAMES[max((known for known in _NAMES if known <= level), default=INFO)]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
