"""Compile a mapping into one Python function: :mod:`export_pipeline.subscribers.mapping`, but several times faster.

Only what the mapping has a path to is read from an event. Every path is looked up once, however often it occurs in the
mapping, and paths share their common steps; a value that occurs twice is built once. Of the mapping's text, the
function's source contains only names and numbers, as Python literals.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import msgspec

from export_pipeline.subscribers import mapping, paths
from export_pipeline.subscribers.decoding import UNUSUAL, decode, encode
from export_pipeline.subscribers.parsing import Unfit

Made = Callable[[Any, bytes], tuple[dict[str, Any], ...]]
"""Event, as decoded by its :class:`EventShape`, and its bytes → the result of each mapping."""

_ALWAYS, _TEXT, _OBJECT, _ANYTHING = "always", "text", "object", "anything"
"""What a value can be: never omitted; omitted if None; an object, omitted if empty; any value of an event."""


class EventShape:
    """The members that several mappings read from an event, as a msgspec type; all others are skipped.

    An object that paths only pass through gets an attribute for each step; one that is itself a value, or may be a
    list, is decoded as usual.

    Args:
        specs: valid mappings.
        whole: decode whole events, like :func:`~export_pipeline.subscribers.decoding.decode`.

    Raises:
        ValueError: msgspec does not accept these names.

    Attributes:
        decode: decodes a line; raises one of :data:`~export_pipeline.subscribers.decoding.UNUSUAL` if exact code has to
            decide, for example if a path passes through a value that is not an object.
    """

    def __init__(self, specs: Iterable[object], *, whole: bool = False) -> None:
        self._steps: dict[str, Any] = {}
        self._values: set[tuple[str, ...]] = set()
        for spec in specs:
            for path in _paths(spec):
                steps = tuple(paths.split(path))
                self._values.add(steps)
                node = self._steps
                for step in steps:
                    node = node.setdefault(step, {})
        self._is_whole = whole
        self.decode: Callable[[bytes], Any] = decode
        if not whole:
            self.decode = msgspec.json.Decoder(self._type(self._steps, ())).decode

    def has_attributes(self, steps: tuple[str, ...]) -> bool:
        """Whether the object at *steps* is decoded into attributes."""
        if self._is_whole or steps in self._values:
            return False
        # An event is never a list.
        return not steps or not any(step.isdecimal() for step in self.node(steps))

    def getter(self, name: str) -> Callable[[Any], Any]:
        """A function that returns the member *name* of an event; one of the specs must read it."""
        if self._is_whole:
            return lambda event: event.get(name)
        return attrgetter(f"f{list(self._steps).index(name)}")

    def node(self, steps: tuple[str, ...]) -> Mapping[str, Any]:
        """The steps that follow *steps* in any path."""
        node = self._steps
        for step in steps:
            node = node[step]
        return node

    def _type(self, node: Mapping[str, Any], steps: tuple[str, ...]) -> type[msgspec.Struct]:
        fields: list[tuple[str, Any, Any]] = []
        for number, (step, inner) in enumerate(node.items()):
            here = (*steps, step)
            is_object = bool(inner) and self.has_attributes(here)
            fields.append((f"f{number}", self._type(inner, here) | None if is_object else Any, None))
        return msgspec.defstruct("Read", fields, rename={f"f{n}": step for n, step in enumerate(node)}, gc=False)


def as_function(specs: Sequence[Mapping[str, Any]], shape: EventShape) -> Made | None:
    """One function for all of *specs*, which are valid mappings; None if it would not do exactly the same.

    Args:
        shape: covers these specs, and possibly others.
    """
    try:
        return _Writer(shape).function(specs)
    except (_Odd, SyntaxError, RecursionError):  # Python accepts at most a hundred levels
        return None


def shape_of(specs: Sequence[object]) -> EventShape:
    """The shape of *specs*; the whole event if msgspec does not accept the names."""
    try:
        return EventShape(specs)
    except (ValueError, TypeError, RecursionError):
        return EventShape(specs, whole=True)


class Call:
    """Builds the call for an event from a mapping, as JSON.

    Args:
        spec: a valid mapping.
        look_at: raises Unfit if the destination would drop the call.
    """

    def __init__(self, spec: Mapping[str, Any], look_at: Callable[[Mapping[str, Any]], None] | None = None) -> None:
        shape = shape_of([spec])
        self._decode = shape.decode
        self._made = as_function([spec], shape)
        self._exactly = mapping.compile_mapping(spec)
        self._look_at = look_at

    def __call__(self, line: bytes) -> bytes:
        """The call for the event in *line*.

        Raises:
            Unfit: it does not fit the destination's format.
        """
        if self._made is not None:
            try:
                (call,) = self._made(self._decode(line), line)
                if self._look_at is not None:
                    self._look_at(call)
                return encode(call)
            except UNUSUAL:
                pass
        call = self._exactly(mapping.Event(line))
        if self._look_at is not None:
            self._look_at(call)
        return mapping.to_json(call)


class _Odd(Exception):
    """The mapping contains a name or value that JSON cannot represent."""


class _Writer:
    """Writes the source of one function."""

    def __init__(self, shape: EventShape) -> None:
        self.shape = shape
        self.body: list[str] = []
        self.depth = 1
        self.made = 0
        self.names: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.steps: dict[str, Any] = {}
        self.variables: dict[tuple[str, ...], str] = {(): "event"}
        self.needs_hash = False
        self.constants: dict[str, Any] = {
            "text_of": mapping.as_text,
            "id_of": mapping.numeric_id,
            "uuid_of": mapping.uuid_of,
            "sha256": hashlib.sha256,
            "empty": frozenset({list, dict}),
        }

    def function(self, specs: Sequence[Mapping[str, Any]]) -> Made:
        for spec in specs:
            for path in _paths(spec):
                node = self.steps
                for step in paths.split(path):
                    node = node.setdefault(step, {})
        results = [self.value(spec) for spec in specs]
        head = ["def made(event, line):"]
        if self.needs_hash:
            head.append("    digest = sha256(line).hexdigest()")
        walked: list[str] = []
        self._walk(walked, self.steps, ())
        text = "\n".join([*head, *walked, *self.body, f"    return ({', '.join(results)},)", ""])
        # Only literals and names that are created here; dataclasses creates methods in the same way.
        exec(compile(text, "<mapping>", "exec"), self.constants)  # noqa: S102
        made: Made = self.constants["made"]
        return made

    def value(self, spec: object) -> str:
        """The variable that holds the result of *spec*; its kind is in ``kinds``."""
        key = repr(spec)
        if key not in self.names:
            name, kind = self._value(spec)
            self.names[key] = name
            self.kinds[name] = kind
        return self.names[key]

    def _value(self, spec: object) -> tuple[str, str]:
        if isinstance(spec, str):
            return self._variable(tuple(paths.split(spec))), _ANYTHING
        assert isinstance(spec, Mapping)  # noqa: S101 (compile_mapping has seen it)
        operator = next((key for key in spec if key in _OPERATORS), None)
        if operator is None:
            return self._object(spec), _OBJECT
        return _OPERATORS[operator](self, spec[operator])

    def _object(self, spec: Mapping[Any, object]) -> str:
        made = self._new()
        self._line(f"{made} = {{}}")
        self._members(made, spec)
        return made

    def _members(self, made: str, spec: Mapping[Any, object]) -> None:
        """Add the members of the object *spec* to *made*."""
        for key, inner in spec.items():
            if not isinstance(key, str):
                raise _Odd
            value = self.value(inner)
            kind = self.kinds[value]
            if kind == _ALWAYS:
                self._line(f"{made}[{key!r}] = {value}")
                continue
            there = {
                _TEXT: f"{value} is not None",
                _OBJECT: value,
                # The most frequent cases first: missing, or not empty.
                _ANYTHING: f"{value} is not None and ({value} or {value}.__class__ not in empty)",
            }[kind]
            self._line(f"if {there}: {made}[{key!r}] = {value}")

    def first(self, specs: Sequence[object]) -> tuple[str, str]:
        made = self._new()
        self._line(f"{made} = None")
        with self._nested() as deeper:
            for spec in specs:
                value = self.value(spec)
                self._line(f"{made} = {value}")
                deeper(f"if {made} is None or (not {made} and {made}.__class__ in empty):")
            self._line(f"{made} = None")
        return made, _ANYTHING

    def first_id(self, specs: Sequence[object]) -> tuple[str, str]:
        made = self._new()
        self._line(f"{made} = None")
        with self._nested() as deeper:
            for spec in specs:
                value = self.value(spec)
                self._line(f"if {value}.__class__ is str:")
                self._line(f"    if {value} and not {value}.isspace(): {made} = {value}")
                self._line(f"elif {value} is not None: {made} = id_of({value})")
                deeper(f"if {made} is None:")
            self._line("pass")
        return made, _TEXT

    def merge(self, specs: Sequence[object]) -> tuple[str, str]:
        made = self._new()
        self._line(f"{made} = {{}}")
        for number, spec in enumerate(specs):
            if isinstance(spec, Mapping) and not any(key in _OPERATORS for key in spec):
                self._members(made, spec)
                continue
            value = self.value(spec)
            with_it = f"{made} = {value}.copy()" if number == 0 else f"{made}.update({value})"
            self._line(f"if {value}.__class__ is dict: {with_it}")
        one = "one if one.__class__ is not list else one[0]"
        # Checked first: most objects contain no list, and copying each would take longer.
        self._line(f"if list in map(type, {made}.values()):")
        self._line(f"    {made} = {{key: {one} for key, one in {made}.items() if one or one.__class__ is not list}}")
        return made, _OBJECT

    def moment(self, spec: object, spelled: Callable[[Any], Any]) -> tuple[str, str]:
        made, value, function = self._new(), self.value(spec), self._constant(spelled)
        self._line(f"{made} = {function}({value})")
        return made, _TEXT

    def milliseconds(self, spec: object) -> tuple[str, str]:
        made, value = self._new(), self.value(spec)
        exactly = self._constant(mapping.milliseconds_of(spec))
        usual = f"{value}.__class__ is int and 0 <= {value} <= {mapping.LAST_MS}"
        self._line(f"{made} = {value} if {usual} else {exactly}({value})")
        return made, _TEXT

    def string(self, spec: object) -> tuple[str, str]:
        made, value = self._new(), self.value(spec)
        self._line(f"{made} = {value} if {value}.__class__ is str else text_of({value})")
        return made, _TEXT

    def constant(self, value: object) -> tuple[str, str]:
        try:
            same = encode(value) == mapping.to_json(value)  # type: ignore[arg-type]
        except (*UNUSUAL, TypeError, Unfit):
            same = False
        if not same:
            raise _Odd
        return self._constant(value), _ANYTHING if mapping.is_nothing(value) else _ALWAYS

    def id(self, characters: int) -> tuple[str, str]:
        self.needs_hash = True
        return self._made(f"digest[:{characters:d}]")

    def uuid(self, of: object) -> tuple[str, str]:
        self.needs_hash = True
        return self._made("uuid_of(digest)")

    def _made(self, expression: str) -> tuple[str, str]:
        made = self._new()
        self._line(f"{made} = {expression}")
        return made, _ALWAYS

    @contextmanager
    def _nested(self) -> Iterator[Callable[[str], None]]:
        """Variables that are assigned under a condition exist only within it."""
        depth, names = self.depth, dict(self.names)

        def deeper(condition: str) -> None:
            self._line(condition)
            self.depth += 1

        yield deeper
        self.depth = depth
        self.names = names

    def _line(self, text: str) -> None:
        self.body.append("    " * self.depth + text)

    def _new(self) -> str:
        self.made += 1
        return f"v{self.made}"

    def _constant(self, value: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def _variable(self, steps: tuple[str, ...]) -> str:
        return self.variables.setdefault(steps, f"p{len(self.variables)}")

    def _walk(self, lines: list[str], node: Mapping[str, Any], steps: tuple[str, ...]) -> None:
        """Look up the values after *steps*, and continue from there."""
        if not node:
            return
        here = self._variable(steps)
        children = {step: self._variable((*steps, step)) for step in node}
        if self.shape.has_attributes(steps):
            # The shape may have attributes that only other mappings read.
            known = list(self.shape.node(steps))
            lines.append(f"    if {here} is not None:")
            lines += [f"        {child} = {here}.f{known.index(step)}" for step, child in children.items()]
            lines.append("    else:")
            lines.append(f"        {' = '.join(children.values())} = None")
            for step, inner in node.items():
                self._walk(lines, inner, (*steps, step))
            return
        lines.append(f"    if {here}.__class__ is dict:")
        lines.append(f"        get = {here}.get")
        lines += [f"        {child} = get({step!r})" for step, child in children.items()]
        numbers = {step: child for step, child in children.items() if step.isdecimal()}
        if numbers:
            lines.append(f"    elif {here}.__class__ is list:")
            for step, child in children.items():
                found = f"{here}[{int(step)}] if len({here}) > {int(step)} else None" if step in numbers else "None"
                lines.append(f"        {child} = {found}")
        lines.append("    else:")
        lines.append(f"        {' = '.join(children.values())} = None")
        for step, inner in node.items():
            self._walk(lines, inner, (*steps, step))


def _paths(spec: object) -> Iterator[str]:
    if isinstance(spec, str):
        yield spec
    elif isinstance(spec, Mapping):
        operator = next((key for key in spec if key in _OPERATORS), None)
        if operator in ("$value", "$id", "$uuid"):
            return
        inner: Iterable[object] = spec.values() if operator is None else [spec[operator]]
        for one in inner:
            yield from _each(one)


def _each(spec: object) -> Iterator[str]:
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        for one in spec:
            yield from _paths(one)
    else:
        yield from _paths(spec)


_OPERATORS: dict[str, Callable[[_Writer, Any], tuple[str, str]]] = {
    "$first": _Writer.first,
    "$first_id": _Writer.first_id,
    "$merge": _Writer.merge,
    "$time": lambda writer, spec: writer.moment(spec, mapping.time_of(spec)),
    "$iso": lambda writer, spec: writer.moment(spec, mapping.iso_of(spec)),
    "$milliseconds": _Writer.milliseconds,
    "$string": _Writer.string,
    "$value": _Writer.constant,
    "$id": _Writer.id,
    "$uuid": _Writer.uuid,
}
