"""The fast way through an event: msgspec reads and writes what is usual, and says of all else that it is not.

What :data:`UNUSUAL` names is left to exact code, event by event: half of a surrogate pair, a number beyond 1.8e308, one
of more digits than Python converts, and deep nesting. What is read is what ``json.loads`` would give, and what is
written is what ``json.dumps`` would, with one exception: a number with an exponent may be spelled otherwise (``1e16``
for ``1e+16``, ``0.00001`` for ``1e-05``), which is the same number.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

UNUSUAL = (msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError)
"""What :func:`decode` and :func:`encode` raise where exact code has to decide."""

decode = msgspec.json.Decoder(dict[str, Any]).decode
"""The object in a line."""

encode = msgspec.json.Encoder().encode
"""Compact JSON of what :func:`decode` gave, and of what is made of it."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ANY = "*"
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode

Dropped = Mapping[str, Any]
"""Steps of paths as a tree: name of a member → what to drop within it; None: the member itself."""


def without(value: bytes, dropped: Dropped) -> bytes | None:
    """*value* without the members in *dropped*; every other byte stays as it is.

    Returns:
        None where exact code has to decide: where there is white space, or names are repeated or written with escapes.
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
    # This proves that nothing stands between the members, and that each name is unique and written as it is.
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
    """A function that gives what a line has at each of *paths*, and reads nothing else of it.

    It raises what :data:`UNUSUAL` names where exact code has to decide, also where a path leads through what is no
    object. None: there is a path of more than one step that begins with another one.
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
    """A type with these members; one that is not there is None, or an empty object where paths lead through it."""
    types = {name: None if inner is None else _struct(inner) for name, inner in fields.items()}
    members = [
        (f"f{number}", Any, None) if inner is None else (f"f{number}", inner, msgspec.field(default_factory=inner))
        for number, inner in enumerate(types.values())
    ]
    names = {f"f{number}": name for number, name in enumerate(types)}
    return msgspec.defstruct("Read", members, rename=names, gc=False)


def _attribute(fields: Dropped, steps: Sequence[str]) -> str:
    """Where a struct of *fields* has the member at *steps*."""
    names = []
    node: Any = fields
    for step in steps:
        names.append(f"f{list(node).index(step)}")
        node = node[step]
    return ".".join(names)


def _leaves(fields: Dropped) -> int:
    return sum(1 if inner is None else _leaves(inner) for inner in fields.values())


def as_tree(paths: Iterable[Sequence[str]]) -> Dropped | None:
    """*paths* as a tree; None where a ``*`` stands beside other names: both may mean one member."""
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
