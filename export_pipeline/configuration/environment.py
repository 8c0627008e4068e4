"""``{env: NAME}`` in a deployment file: found anywhere in it, validated, and replaced from the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from export_pipeline.configuration.document import Document, Place, Problem, Value, found
from export_pipeline.secrets import EnvRef

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Environment:
    """The file's values with every ``{env: NAME}`` replaced.

    Attributes:
        tree: as ``Document.tree``, with the value in place of each reference; empty text if the variable is not set.
        references: place → referenced variable, including those with a problem.
        values: the variables' values, to remove them from texts.
        problems: variables that are not set or empty, and invalid names.
    """

    tree: dict[str, Value] = field(default_factory=dict)
    references: dict[Place, EnvRef] = field(default_factory=dict)
    values: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def read_environment(document: Document, environ: Mapping[str, str]) -> Environment:
    """Replace every ``{env: NAME}`` with its value in *environ*. Never raises: see ``Environment.problems``."""
    environment = Environment()
    environment.tree = {
        key: _resolved(value, (key,), document, environ, environment) for key, value in document.tree.items()
    }
    return environment


def is_reference(value: object) -> bool:
    """Whether *value* has the shape ``{env: …}``."""
    return isinstance(value, dict) and value.keys() == {"env"}


def _resolved(
    value: Value, place: Place, document: Document, environ: Mapping[str, str], environment: Environment
) -> Value:
    if isinstance(value, list):
        return [_resolved(item, (*place, index), document, environ, environment) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if not is_reference(value):
        return {key: _resolved(item, (*place, key), document, environ, environment) for key, item in value.items()}
    name = value["env"]
    line = document.line(place)
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        # Not shown: users sometimes paste the secret itself here.
        text = (
            f"found {found(name, secret=True)} as env; allowed: the name of an environment variable, such as CRM_SECRET"
        )
        environment.problems.append(Problem(line, place, text))
        environment.references[place] = EnvRef(env="?")
        return ""
    environment.references[place] = EnvRef(env=name)
    content = environ.get(name)
    if not content:
        state = "is not set" if content is None else "is empty"
        environment.problems.append(Problem(line, place, f"the environment variable {name} {state}"))
        return ""
    environment.values.add(content)
    return content
