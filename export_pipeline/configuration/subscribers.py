"""The ``subscribers:`` section of a deployment file: each entry is validated by the class that its ``type`` names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from export_pipeline.configuration.document import Place, Problem, dotted
from export_pipeline.configuration.settings import StartFrom, parse_start
from export_pipeline.configuration.validation import DeploymentDraft, fields_of, problems_of, secret_places, unknown_key
from export_pipeline.errors import ConfigurationError
from export_pipeline.subscribers.registry import known_types, resolve

if TYPE_CHECKING:
    from export_pipeline.secrets import EnvRef
    from export_pipeline.subscribers.base import Subscriber

RESERVED_NAMES = frozenset(
    {
        "source",
        "layout",
        "ledger",
        "staging",
        "quarantine",
        "deployment",
        "settings",
        "raw_events",
        "io_manager",
        "alerts",
        "read",
    }
)
"""Names that Dagster or this project uses for resources and assets."""

MAX_NAME_CHARACTERS = 40
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class SubscriberEntry:
    """One valid entry under ``subscribers``.

    Attributes:
        name: its key: the name of its resource and asset, and part of its op's name.
        type_name: ``type`` as written in the file.
        resource_class: the class of that type.
        options: every key but ``type``, as written in the file, with an EnvRef for each variable (at any depth).
        since: where it starts; None if the file does not say.
        unusable: why nothing can be delivered to it: a variable is not set, or has an invalid value.
    """

    name: str
    type_name: str
    resource_class: "type[Subscriber]"
    options: "Mapping[str, Any | EnvRef]" = field(repr=False)  # the file can contain literal secrets
    since: StartFrom | None
    unusable: str = ""


def read_subscribers(
    draft: DeploymentDraft, *, without_variables: bool = False
) -> tuple[dict[str, SubscriberEntry], list[Problem]]:
    """The valid entries under ``subscribers`` in the order of the file, and the problems of the others.

    Args:
        without_variables: keep an entry whose variables are not set, or have invalid values, as unusable.
    """
    top: Place = ("subscribers",)
    entries = draft.value(top)
    if entries is None:
        return {}, []
    if not isinstance(entries, dict):
        return {}, [draft.unfit(top, "allowed: a mapping of names to subscribers, each with a type")]
    read: dict[str, SubscriberEntry] = {}
    problems: list[Problem] = []
    for name in entries:
        entry, wrong = _read_entry(name, draft, without_variables=without_variables)
        problems += wrong
        if entry is not None and not wrong:
            read[name] = entry
    return read, problems


def _read_entry(
    name: str, draft: DeploymentDraft, *, without_variables: bool
) -> tuple[SubscriberEntry | None, list[Problem]]:
    place: Place = ("subscribers", name)
    problems = [draft.problem(place, text) for text in wrong_with_name(name)]
    values = draft.value(place)
    if not isinstance(values, dict):
        return None, [*problems, draft.unfit(place, "allowed: a mapping with a type and the options of that type")]
    type_name = values.get("type")
    if not isinstance(type_name, str) or not type_name:
        return None, [*problems, *_wrong_type(place, draft)]
    try:
        resource_class = resolve(type_name)
    except ConfigurationError as error:
        return None, [*problems, draft.problem((*place, "type"), str(error))]
    draft = draft.with_secrets(secret_places(resource_class, place))
    wrong = _wrong_options(resource_class, place, draft)
    unusable: list[Problem] = []
    if without_variables:
        unusable = [one for one in draft.environment.problems if _is_of_a_variable(one, place, draft)]
        unusable += [one for one in wrong if _is_of_a_variable(one, place, draft, missing=bool(unusable))]
        wrong = [one for one in wrong if one not in unusable]
    if wrong or problems:
        return None, problems + wrong
    written = draft.written(place)
    since = values.get("since")
    entry = SubscriberEntry(
        name=name,
        type_name=type_name,
        resource_class=resource_class,
        options={key: value for key, value in written.items() if key != "type"},
        since=None if since is None else parse_start(since),
        unusable="; ".join(_with_variable(one, draft) for one in unusable),
    )
    return entry, []


def _is_of_a_variable(problem: Problem, place: Place, draft: DeploymentDraft, *, missing: bool = False) -> bool:
    """Whether a problem of the entry at *place* is caused by a variable's value, not by the file.

    Args:
        missing: a variable of the entry is not set, so its class's problems with the options as a whole do not count.
    """
    if problem.place[:2] != place or problem.place[2:3] in (("type",), ("since",)):
        return False
    return _variable(problem, draft) is not None or (missing and problem.place == place)


def _variable(problem: Problem, draft: DeploymentDraft) -> str | None:
    """Name of the variable at the place of the problem, or above it; None if there is none."""
    places = [problem.place[:length] for length in range(1, len(problem.place) + 1)]
    names = [draft.environment.references[one].env for one in places if one in draft.environment.references]
    return names[-1] if names else None


def _with_variable(problem: Problem, draft: DeploymentDraft) -> str:
    name = _variable(problem, draft)
    named = problem.text if name is None or name in problem.text else f"the environment variable {name}: {problem.text}"
    # Not "secret: …": tools that redact secrets would take the next word for the secret.
    return f"{named} (option {dotted(problem.place[2:])})" if problem.place[2:] else named


def wrong_with_name(name: str) -> list[str]:
    """Why *name* is not valid for a subscriber; empty if it is."""
    if len(name) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(name):
        form = (
            f"a lower-case letter, then letters a-z, digits and underscores, at most {MAX_NAME_CHARACTERS} characters"
        )
        return [f"not a valid name of a subscriber; allowed: {form}"]
    if name in RESERVED_NAMES:
        others = ", ".join(sorted(RESERVED_NAMES))
        return [f"this name is reserved; allowed: any name except {others}"]
    # Late, since it imports Dagster, which a subscriber's class needs anyway.
    from export_pipeline.subscribers.launchable import dagster_takes

    if not dagster_takes(name):
        return [f"this name is reserved by Dagster or Python; allowed: any other, such as {name}_events"]
    return []


def _wrong_type(place: Place, draft: DeploymentDraft) -> list[Problem]:
    allowed = f"allowed: {', '.join(known_types())}, or package.module:Class"
    place = (*place, "type")
    if place in draft.environment.references:
        return []  # a missing variable is a problem already
    if draft.value(place) is None:
        return [draft.problem(place, f"this key is missing; {allowed}")]
    return [draft.unfit(place, allowed)]


def _wrong_options(resource_class: "type[Subscriber]", place: Place, draft: DeploymentDraft) -> list[Problem]:
    """The class's problems with the options. Variables are resolved, so that their values are validated as well."""
    values = draft.value(place)
    options = {key: value for key, value in values.items() if key != "type"} if isinstance(values, dict) else {}
    known = set(fields_of(resource_class))
    # A user's class may not forbid unknown keys; by default Dagster drops them silently.
    unknown = [
        draft.problem((*place, key), unknown_key((*place, key), known | {"type"}))
        for key in options
        if key not in known
    ]
    try:
        resource_class.model_validate({key: value for key, value in options.items() if key in known})
    except ValidationError as error:
        return unknown + problems_of(error, draft, resource_class, place)
    return unknown
