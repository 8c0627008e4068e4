"""Fast parsing and writing of events: msgspec handles the usual ones, and raises an error for the rest.

What raises :data:`UNUSUAL` is left to exact code, event by event: half of a surrogate pair, a number beyond 1.8e308, a
number with more digits than Python converts, and deep nesting. Reading gives what ``json.loads`` would give, and
writing what ``json.dumps`` would, with one exception: a number with an exponent may be written differently (``1e16``
for ``1e+16``, ``0.00001`` for ``1e-05``), which is the same number.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

UNUSUAL = (msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError)
"""What :func:`decode` and :func:`encode` raise if exact code has to decide."""

decode = msgspec.json.Decoder(dict[str, Any]).decode
"""The object in a line."""

encode = msgspec.json.Encoder().encode
"""Compact JSON of what :func:`decode` returned, or of values derived from it."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ANY = "*"
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode

Dropped = Mapping[str, Any]
"""Paths as a tree: name of a member → what to drop within it; None: the member itself."""


def without(value: bytes, dropped: Dropped) -> bytes | None:
    """*value* without the members in *dropped*; every other byte is unchanged.

    Returns:
        None if exact code has to decide: if there is white space, or names are repeated or written with escapes.
    """
    first = value[:1]
    if first == b"{":
        members = {name: bytes(raw) for name, raw in _members(value).items()}
        whole = {name: b'"%b":%b' % (name.encode(), inner) for name, inner in members.items()}
        form = b"{%b}"
    elif first == b"[":
        members = {str(number): bytes(raw) for number, raw in enumerate(_elements(value))}
        whole, form = members, b"[%b]"
    else:
        return value
    # This proves that nothing is between the members, and that each name is unique and written without escapes.
    if form % b",".join(whole.values()) != value:
        return None
    for name in dropped if _ANY not in dropped else [*whole]:
        if name not in whole:
            continue
        inner = dropped[name if name in dropped else _ANY]
        if inner is None:
            del whole[name]
            continue
        left = without(members[name], inner)
        if left is None:
            return None
        whole[name] = whole[name][: len(whole[name]) - len(members[name])] + left
    return form % b",".join(whole.values())


def reader(paths: Iterable[Sequence[str]]) -> Callable[[bytes], Sequence[Any]] | None:
    """A function that returns the values at *paths* in a line, and parses nothing else of it.

    It raises one of :data:`UNUSUAL` if exact code has to decide, also if a path leads through a value that is not an
    object. None: one path begins with another.
    """
    ordered = [tuple(steps) for steps in paths]
    fields = as_tree(ordered)
    if fields is None or len(set(ordered)) < len(ordered) or _leaves(fields) != len(ordered):
        return None
    get_each = [attrgetter(_attribute(fields, steps)) for steps in ordered]
    read = msgspec.json.Decoder(_struct(fields)).decode
    if len(get_each) == 1:
        (get,) = get_each
        return lambda line: (get(read(line)),)
    return lambda line: [get(event) for event in (read(line),) for get in get_each]


def _struct(fields: Dropped) -> type[msgspec.Struct]:
    """A type with these members; a missing one is None, or an empty object if paths lead through it."""
    types = {name: None if inner is None else _struct(inner) for name, inner in fields.items()}
    members = [
        (f"f{number}", Any, None) if inner is None else (f"f{number}", inner, msgspec.field(default_factory=inner))
        for number, inner in enumerate(types.values())
    ]
    names = {f"f{number}": name for number, name in enumerate(types)}
    return msgspec.defstruct("Read", members, rename=names, gc=False)


def _attribute(fields: Dropped, steps: Sequence[str]) -> str:
    """The dotted attribute of the member at *steps* in a struct of *fields*."""
    names = []
    node: Any = fields
    for step in steps:
        names.append(f"f{list(node).index(step)}")
        node = node[step]
    return ".".join(names)


def _leaves(fields: Dropped) -> int:
    return sum(1 if inner is None else _leaves(inner) for inner in fields.values())


def as_tree(paths: Iterable[Sequence[str]]) -> Dropped | None:
    """*paths* as a tree; None if a ``*`` is beside other names: both may match the same member."""
    root: dict[str, Any] = {}
    for steps in sorted(paths, key=len):
        node: dict[str, Any] | None = root
        for step in steps[:-1]:
            node = node.setdefault(step, {}) if node is not None else None
        if node is not None:
            node[steps[-1]] = None
    return root if _is_unambiguous(root) else None


def _is_unambiguous(node: Dropped) -> bool:
    if _ANY in node and len(node) > 1:
        return False
    return all(inner is None or _is_unambiguous(inner) for inner in node.values())
