"""A YAML file as plain values with the line of each, and the problems found in it."""

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import yaml

from export_pipeline.errors import ConfigurationError

Place = tuple[str | int, ...]
"""The path of a value in the file: ``("subscribers", "crm", "groups", 0)``."""
Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_LONGEST_ECHO = 80
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")
# A deployment file has a few hundred lines and five levels. Far larger ones are refused before they cost minutes: nine
# aliases of nine aliases, nine levels deep, are 300 bytes and expand to 387 million values.
_MOST_BYTES = 1024 * 1024
_MOST_LEVELS = 50
_MOST_VALUES = 50_000

_SCALARS = ("null", "bool", "int", "float", "str")
_QUOTED = re.compile(r"'([^']*)'")
"""What PyYAML puts in quotes: text from the file, and names of its tokens, such as '<scalar>'."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in the file.

    Attributes:
        line: counted from 1; 0 for a problem of the whole file.
        place: keys from the top of the file; empty for a problem of the whole file.
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
    """An error with all *problems* of *file*, ordered by line: ``<file>:<line>: <path in the file>: <problem>``."""
    lines = []
    for problem in sorted(set(problems), key=lambda one: (one.line, dotted(one.place), one.text)):
        position = f"{file}:{problem.line}" if problem.line else file
        lines.append(": ".join(part for part in (position, dotted(problem.place), problem.text) if part))
    return ConfigurationError("\n".join(lines))


def found(value: object, *, secret: bool = False) -> str:
    """Describe a value of the file, such as ``the text 'hourli'``; for a secret only its type and length."""
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


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but dates stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own name and shape)
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        """Limit the nesting depth, since PyYAML recurses for each level."""
        if self._level > _MOST_LEVELS:
            problem = f"found more than {_MOST_LEVELS} levels of lists and mappings"
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self._level += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[arg-type]
        finally:
            self._level -= 1
        return node


@dataclass(slots=True)
class Document:
    """The file's values and their lines.

    Attributes:
        tree: the top-level mapping; empty if the file could not be read.
        lines: place → line, counted from 1. A key's line is that of the key, not of its value.
        problems: YAML errors, and duplicate keys.
    """

    tree: dict[str, Value] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """The line of *place*, or of the nearest place above it that is in the file."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 0)


def read_document(data: bytes) -> Document:
    """Parse *data*, a YAML file in UTF-8 with one mapping at its top. Never raises: see ``Document.problems``."""
    document = Document()
    try:
        loader = _loader(_text(data))
        root = _root(loader)
        tree = _Reader(loader, document).value(root, (), ())
    except _Refused as error:
        document.problems.append(error.problem)
        return document
    document.tree = tree if isinstance(tree, dict) else {}
    return document


class _Refused(Exception):
    """Raised to stop reading the file."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(line, (), text)


def _text(data: bytes) -> str:
    if len(data) > _MOST_BYTES:
        raise _Refused(0, f"found {len(data):,} bytes; allowed: at most {_MOST_BYTES:,}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _Refused(line, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None


def _loader(text: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _Refused(line, f"the character U+{ord(text[error.position]):04X} is not allowed in YAML") from None


def _root(loader: _Loader) -> yaml.MappingNode:
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_problem(error) from None
    if root is None or (isinstance(root, yaml.MappingNode) and not root.value):
        raise _Refused(0, "the file is empty; it needs at least source and subscribers")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        text = f"found {kind} at the top; allowed: a mapping of keys such as source and subscribers"
        raise _Refused(root.start_mark.line + 1, text)
    return root


def _syntax_problem(error: yaml.MarkedYAMLError) -> _Refused:
    """PyYAML's error without its excerpt of the line, which can contain a secret."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    problem = _QUOTED.sub(_one_character_at_most, error.problem or "cannot be read")
    if "'\\t'" in problem:
        problem = "found a tab; YAML is indented with spaces only"
    elif "expected a single document" in str(error.context):
        problem = "found a second document (---); allowed: one"
    elif "undefined alias" in problem or "undefined tag" in problem:
        problem = "text that starts with * or ! must be quoted"
    column = f" at column {mark.column + 1}" if mark else ""
    return _Refused(line, f"not valid YAML{column}: {problem}")


def _one_character_at_most(quoted: re.Match[str]) -> str:
    harmless = len(quoted[1]) <= len(r"\t") or quoted[1].startswith("<")
    return quoted[0] if harmless else "…"


class _Reader:
    """Walks the composed nodes, so that lines are known and all problems are found, not only the first."""

    def __init__(self, loader: _Loader, document: Document) -> None:
        self._loader = loader
        self._document = document
        self._values = 0

    def value(self, node: yaml.Node, place: Place, above: tuple[yaml.Node, ...]) -> Value:
        self._values += 1
        if self._values > _MOST_VALUES:
            text = f"found more than {_MOST_VALUES:,} values, the maximum; aliases (*…) count as what they expand to"
            raise _Refused(node.start_mark.line + 1, text)
        self._document.lines.setdefault(place, node.start_mark.line + 1)
        if node in above:
            self._problem(node, place, "found an alias that contains itself")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, (*above, node))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, index), (*above, node)) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place, above: tuple[yaml.Node, ...]) -> Value:
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, place, "found a key that is a list or mapping; allowed: a plain name")
                continue
            key = str(key_node.value)
            here = (*place, key)
            if key in result:
                first = self._document.lines[here]
                self._problem(key_node, here, f"duplicate key; it is first defined in line {first}")
                continue
            self._document.lines[here] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, here, above)
        return result

    def _scalar(self, node: yaml.Node, place: Place) -> Value:
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if tag in ("int", "float") and ":" in node.value:
            return str(node.value)  # YAML 1.1 reads 12:30 as 750
        if tag not in _SCALARS:
            self._problem(node, place, "found a tag (!…); text that starts with ! must be quoted")
            return None
        try:
            value: Hashable = self._loader.construct_object(node)
        except (yaml.MarkedYAMLError, ValueError):
            self._problem(node, place, f"not a valid {tag}")
            return None
        assert value is None or isinstance(value, bool | int | float | str)  # noqa: S101 (the five tags give nothing else)
        return value

    def _problem(self, node: yaml.Node, place: Place, text: str) -> None:
        self._document.problems.append(Problem(node.start_mark.line + 1, place, text))
