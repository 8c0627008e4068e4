"""What Dagster's UI shows of a resource: no secrets, and nothing that breaks a run when it is submitted again.

For every field that is marked as secret, Dagster writes ``********`` into the Launchpad's default config, whether it is
set or not, and uses that as its value when the run is launched. The name of a variable is not a secret, nor is a field
without a value: both are shown unchanged. Other values of marked fields, and passwords in URLs, stay hidden.
"""

import keyword
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from dagster import ConfigurableResource, DagsterInvalidDefinitionError, Field, OpDefinition, Shape
from pydantic import ConfigDict, model_validator

from export_pipeline.dagster_internals import DefinitionConfigSchema

MASK = "********"


class LaunchableResource(ConfigurableResource[None]):
    """A resource whose default config can be launched from the Launchpad."""

    # A validation error would otherwise quote the invalid value, which may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_mask(cls, values: Any) -> Any:
        masked = [str(name) for name, value in values.items() if value == MASK] if isinstance(values, Mapping) else []
        if masked:
            raise ValueError(
                f"{', '.join(masked)}: found {MASK}, which Dagster's UI shows instead of a secret; remove it from the "
                "run's config, and the deployment's value is used"
            )
        return values

    @property
    def _config_schema(self) -> DefinitionConfigSchema:
        # Not public: Dagster has no other way to hide literal values and show all others.
        whole = super()._config_schema.as_field()
        defaults = whole.default_value if whole.default_provided else {}
        fields = {name: _marked(field, defaults.get(name)) for name, field in whole.config_type.fields.items()}
        hidden = [name for name, field in fields.items() if field.is_secret]
        # Dagster caches one Shape for all whose fields differ only in is_secret: the description distinguishes them.
        told = f"Hidden: {', '.join(hidden)}." if hidden else "Nothing is hidden."
        shape = Shape(fields, description=told)  # type: ignore[no-untyped-call]
        return DefinitionConfigSchema(
            Field(shape, default_value=defaults, is_required=False, description=whole.description)
        )


def dagster_takes(name: str) -> bool:
    """Whether an op, an output and a resource may have *name*: Dagster decides, because it builds them."""
    # Dagster builds a named tuple of the resources, which does not accept Python keywords, and checks names of ops
    # against its own list, which contains those and more.
    if keyword.iskeyword(name):
        return False
    try:
        OpDefinition(compute_fn=_nothing, name=name)
    except DagsterInvalidDefinitionError:
        return False
    return True


def _nothing() -> None:
    """A function that is never called."""


def _marked(field: Field, value: Any) -> Field:
    """*field*, marked as secret only if *value* has to be hidden."""
    given = {"default_value": field.default_value} if field.default_provided else {}
    return Field(
        field.config_type,
        is_required=field.is_required,
        description=field.description,
        is_secret=_is_secret(value, is_marked=field.is_secret),
        **given,
    )


def _is_secret(value: Any, *, is_marked: bool) -> bool:
    if isinstance(value, Mapping):
        return value.keys() != {"env"} and any(_is_secret(inner, is_marked=is_marked) for inner in value.values())
    if isinstance(value, list):
        return any(_is_secret(inner, is_marked=is_marked) for inner in value)
    if isinstance(value, str):
        return is_marked or ("://" in value and urlsplit(value).password is not None)
    return is_marked and value is not None
