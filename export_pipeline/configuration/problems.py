"""What is wrong with a deployment file: collected first, then told in one error, one problem a line."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from export_pipeline.errors import ConfigurationError

Place = tuple[str | int, ...]
"""Where a value stands in the file: ``("subscribers", "crm", "groups", 0)``."""

_LONGEST_ECHO = 80
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend.

    Attributes:
        line: counted from 1; 0 where the problem is that of the whole file.
        place: keys from the top of the file; empty where it is that of the whole file.
        text: what was found and what is allowed. Never a secret.
    """

    line: int
    place: Place
    text: str


def dotted(place: Place) -> str:
    """``subscribers.crm.groups[0].traits``."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return "".join(parts).removeprefix(".")


def configuration_error(file: str, problems: Iterable[Problem]) -> ConfigurationError:
    """All *problems* of *file*, in the order of its lines: ``<file>:<line>: <path in the file>: <problem>``."""
    lines = []
    for problem in sorted(set(problems), key=lambda one: (one.line, dotted(one.place), one.text)):
        position = f"{file}:{problem.line}" if problem.line else file
        lines.append(": ".join(part for part in (position, dotted(problem.place), problem.text) if part))
    return ConfigurationError("\n".join(lines))


def found(value: object, *, secret: bool = False) -> str:
    """Describe a value of the file, such as ``the text 'hourli'``; of a secret only its kind and length."""
    if isinstance(value, str):
        return _found_text(value, secret=secret)
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if secret:
        return "a number"
    return str(value).lower() if isinstance(value, bool) else f"the number {value}"


def _found_text(text: str, *, secret: bool) -> str:
    shown = _USER_INFO.sub("…@", text)
    if not text:
        return "an empty text"
    return f"a text of {len(text)} characters" if secret or len(shown) > _LONGEST_ECHO else f"the text {shown!r}"
