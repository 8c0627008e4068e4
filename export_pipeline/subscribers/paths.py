"""Dotted paths into an event: ``endpoint.User.UserId``; a number indexes a list."""

import json
from collections.abc import Iterable, Iterator, Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C scanner; typeshed does not know it
from typing import Any

from export_pipeline.subscribers.parsing import Unfit

_WHITESPACE = " \t\r\n"
_ANY = "*"


def split(path: str) -> list[str]:
    """The steps of *path*.

    Raises:
        ValueError: it is empty, or a step of it is.
    """
    steps = path.split(".")
    if not all(steps):
        raise ValueError(f"{path!r} is not a path: allowed are names and numbers joined by single dots")
    return steps


def look_up(event: object, steps: Sequence[str]) -> Any:
    """The value of *event* at *steps*; None if there is nothing, or null."""
    found: Any = event
    for step in steps:
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def drop(line: bytes, paths: Iterable[Sequence[str]]) -> bytes:
    """*line* without the members at *paths*; every other byte is unchanged.

    A step ``*`` matches every key or element. A key that occurs twice is dropped twice.

    Args:
        line: one JSON object in UTF-8.
        paths: each as returned by :func:`split`.

    Raises:
        Unfit: it is nested too deeply.
    """
    text = line.decode()
    for steps in paths:
        try:
            gaps = list(_gaps(text, _skip(text, 0), steps))
        except RecursionError:
            raise Unfit("nested too deeply for drop_fields") from None
        for start, stop in reversed(gaps):
            text = text[:start] + text[stop:]
    return text.encode()


def _gaps(text: str, start: int, steps: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where to cut *text* to drop *steps* from the value that begins at *start*."""
    if text[start] not in "{[":
        return
    members = list(_members(text, start))
    wanted = [steps[0] in (name, _ANY) for name, *_ in members]
    if len(steps) > 1:
        for (_, _, value, _), is_wanted in zip(members, wanted, strict=True):
            if is_wanted:
                yield from _gaps(text, value, steps[1:])
        return
    kept_before = False
    for index, (_, begin, _, end) in enumerate(members):
        if not wanted[index]:
            kept_before = True
        elif kept_before:
            yield members[index - 1][3], end  # from the end of the previous member, to remove the comma, too
        elif index + 1 < len(members):
            yield begin, members[index + 1][1]
        else:
            yield begin, end


def _members(text: str, start: int) -> Iterator[tuple[str, int, int, int]]:
    """For each member of the value at *start*: name (in a list: number), start, start of its value, and end."""
    is_object = text[start] == "{"
    position = _skip(text, start + 1)
    number = 0
    while text[position] not in "}]":
        begin, name = position, str(number)
        if is_object:
            name, position = scanstring(text, position + 1, False)
            position = _skip(text, _skip(text, position) + 1)
        value = position
        _, end = _DECODER.raw_decode(text, position)
        yield name, begin, value, end
        number += 1
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)


# Only the ends of values are needed: numbers must not be converted, however long they are.
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, strict=False)


def _skip(text: str, position: int) -> int:
    while text[position] in _WHITESPACE:
        position += 1
    return position
