"""Translate pydantic's errors into problems of the deployment file: place, what was found, what is allowed."""

import difflib
import re
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from export_pipeline.configuration.document import Document, Place, Problem, found
from export_pipeline.configuration.environment import Environment
from export_pipeline.configuration.stores import LEDGER_URL, passwords
from export_pipeline.secrets import EnvRef, scrub

_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "date_type": "a date (YYYY-MM-DD)",
    "date_parsing": "a date (YYYY-MM-DD)",
    "date_from_datetime_parsing": "a date (YYYY-MM-DD)",
    "date_from_datetime_inexact": "a date (YYYY-MM-DD)",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "mapping_type": "a mapping of keys",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "none_required": "nothing",
}
_STRUCTURE = re.compile("allowed: (a mapping|a list)")
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "string_too_short": ("min_length", "a text of at least {} characters"),
    "string_too_long": ("max_length", "a text of at most {} characters"),
    "too_short": ("min_length", "at least {} entries"),
    "too_long": ("max_length", "at most {} entries"),
    "string_pattern_mismatch": ("pattern", "a text of the form {}"),
    "literal_error": ("expected", "{}"),
    "enum": ("expected", "{}"),
}


@dataclass(frozen=True, slots=True)
class DeploymentDraft:
    """A deployment file that is being validated: its values by place, and which of them are secret.

    Attributes:
        document: the file.
        environment: its values with variables resolved.
        secret_places: places whose values, and everything below them, are never shown.
    """

    document: Document
    environment: Environment
    secret_places: frozenset[Place]

    def value(self, place: Place) -> object:
        """The value at *place*; None if there is none."""
        node: Any = self.environment.tree
        for key in place:
            if not _has(node, key):
                return None
            node = node[key]
        return node

    def has(self, place: Place) -> bool:
        """Whether there is a value at *place*."""
        return not place or _has(self.value(place[:-1]), place[-1])

    def written(self, place: Place) -> Any:
        """The value at *place*, with an EnvRef for each variable."""
        return self._with_references(self.value(place), place, self.environment.references)

    def with_references_at(self, places: Collection[Place]) -> dict[str, Any]:
        """The whole file, with an EnvRef for variables at *places*, and the value for all others."""
        references = {place: value for place, value in self.environment.references.items() if place in places}
        return {key: self._with_references(value, (key,), references) for key, value in self.environment.tree.items()}

    def with_secrets(self, places: Iterable[Place]) -> "DeploymentDraft":
        """The same draft with additional secret places."""
        return DeploymentDraft(self.document, self.environment, self.secret_places | frozenset(places))

    def problem(self, place: Place, text: str) -> Problem:
        """A problem at *place*, with secrets removed from its text."""
        return Problem(self.document.line(place), place, self.redacted(text))

    def unfit(self, place: Place, allowed: str) -> Problem:
        """The problem that the value at *place* is not one that is *allowed* there."""
        value = self.value(place)
        reference = self.environment.references.get(place)
        # Text in place of a mapping or list can be a secret whose key is missing: it is not shown, either.
        stray = isinstance(value, str) and _STRUCTURE.match(allowed) is not None
        hidden = reference is not None or self.is_secret(place) or stray
        where = f" in the environment variable {reference.env}" if reference else ""
        return self.problem(place, f"found {found(value, secret=hidden)}{where}; {allowed}")

    def is_secret(self, place: Place) -> bool:
        """Whether *place*, or a place above it, is secret."""
        return any(place[: length + 1] in self.secret_places for length in range(len(place)))

    def redacted(self, text: str) -> str:
        """*text* with values of variables, and secrets written in the file, removed."""
        return scrub(text, self.environment.values | self.literal_secrets())

    def literal_secrets(self) -> set[str]:
        """Every secret that is written in the file itself."""
        secrets: set[str] = set()
        for place in self.secret_places:
            texts = set(_texts(self.value(place)))
            # The ledger's URL can be a path: only a password in it is secret.
            secrets |= {part for text in texts for part in passwords(text)} if place == LEDGER_URL else texts
        return secrets

    def _with_references(self, value: Any, place: Place, references: Mapping[Place, EnvRef]) -> Any:
        if place in references:
            return references[place]
        if isinstance(value, dict):
            return {key: self._with_references(item, (*place, key), references) for key, item in value.items()}
        if isinstance(value, list):
            return [self._with_references(item, (*place, index), references) for index, item in enumerate(value)]
        return value


def problems_of(
    error: ValidationError, draft: DeploymentDraft, model: type[BaseModel], above: Place = ()
) -> list[Problem]:
    """Translate *error*, raised by validating the values at *above* with *model*.

    The errors of a union's members become one problem.
    """
    problems: list[Problem] = []
    allowed: dict[Place, list[str]] = {}
    for detail in error.errors(include_url=False):
        place = _place(detail, draft, model, above)
        # A missing variable is already reported; errors caused by the empty text in its place are not.
        if place in draft.environment.references and not draft.value(place):
            continue
        if draft.is_secret(place):
            place = _shortest_secret(place, draft)
        if not draft.has(place):
            problems.append(draft.problem(place, _missing(model, place[len(above) :])))
        elif detail["type"] == "extra_forbidden" and EnvRef.__name__ not in detail["loc"]:
            problems.append(
                draft.problem(place, unknown_key(place, fields_of(_model_at(model, place[len(above) : -1]))))
            )
        elif detail["type"] == "value_error" and not _allowed(detail).startswith("allowed: "):
            problems.append(draft.problem(place, _allowed(detail)))  # a validator's own message is complete
        else:
            allowed.setdefault(place, []).append(_allowed(detail))
    for place, choices in allowed.items():
        words = " or ".join(dict.fromkeys(choices)).removeprefix("allowed: ")
        problems.append(draft.unfit(place, f"allowed: {words}"))
    return problems


def unknown_key(place: Place, known: Iterable[str]) -> str:
    """The problem text for a key that is not in *known*."""
    names = sorted(known)
    near = difflib.get_close_matches(str(place[-1]), names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown key{hint}; allowed: {', '.join(names)}"


def fields_of(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """The keys of *model* in a file, and their fields."""
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else {}


def secret_places(model: type[BaseModel], above: Place = ()) -> set[Place]:
    """Every place of *model* that can contain a secret: marked as in Dagster, or of a type that accepts an EnvRef."""
    places: set[Place] = set()
    for name, field in fields_of(model).items():
        members = _members(field.annotation)
        marks = field.json_schema_extra
        if EnvRef in members or (isinstance(marks, dict) and marks.get("dagster__is_secret")):
            places.add((*above, name))
            continue
        for member in members:
            if _is_model(member):
                places |= secret_places(member, (*above, name))
    return places


def _place(detail: ErrorDetails, draft: DeploymentDraft, model: type[BaseModel], above: Place) -> Place:
    """The place in the file: pydantic's path without the names of union members.

    It ends at a key that is not in the file only if that key is missing: Dagster reports a missing key as None.
    """
    place = above
    for index, key in enumerate(detail["loc"]):
        here = (*place, key)
        is_last = index == len(detail["loc"]) - 1
        if draft.has(here) or (is_last and key in fields_of(_model_at(model, place[len(above) :]))):
            place = here
    return place


def _has(node: object, key: str | int) -> bool:
    if isinstance(node, Mapping):
        return key in node
    return isinstance(node, list) and isinstance(key, int) and key < len(node)


def _shortest_secret(place: Place, draft: DeploymentDraft) -> Place:
    """The place that is marked secret: names of keys below it can be the secret itself."""
    return next(place[:length] for length in range(1, len(place) + 1) if place[:length] in draft.secret_places)


def _allowed(detail: ErrorDetails) -> str:
    if EnvRef.__name__ in detail["loc"]:
        return "{env: NAME}"
    kind = detail["type"]
    if kind in _KINDS:
        return _KINDS[kind]
    context = detail.get("ctx", {})
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return words.format(context.get(name))
    return str(context["error"]) if "error" in context else detail["msg"]


def _missing(model: type[BaseModel], place: Place) -> str:
    owner = _model_at(model, place[:-1])
    field = fields_of(owner).get(str(place[-1]))
    description = f": {field.description}" if field and field.description else ""
    return f"this key is missing{description}"


def _model_at(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """The model of the mapping at *place* in *model*, if it is one."""
    candidates: list[Any] = [model]
    for key in place:
        candidates = [member for candidate in candidates for member in _step(candidate, key)]
    return next((candidate for candidate in candidates if _is_model(candidate)), None)


def _step(annotation: Any, key: str | int) -> list[Any]:
    if _is_model(annotation):
        field = fields_of(annotation).get(str(key))
        return _members(field.annotation) if field else []
    arguments = get_args(annotation)
    return _members(arguments[-1]) if get_origin(annotation) in (dict, list) and arguments else []


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member)]
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    return [annotation]


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _texts(value: object) -> Iterable[str]:
    """Every text in *value*."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
