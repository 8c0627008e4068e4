"""The text of a deployment file that documents itself: its comments are the descriptions of the fields."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel

from export_pipeline.deployment import Deployment
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.registry import resolve

_WIDTH = 110
_INDENT = "  "


@dataclass(slots=True)
class Answers:
    """What a deployment file contains. None leaves a key out, so that its default applies.

    Attributes:
        places: ``ledger``, ``staging``, ``quarantine`` → url, or ``{"env": NAME}``.
        subscribers: name → ``type`` and the options of that type.
    """

    source_url: str
    layout: str | None = None
    frequency: str | None = None
    start_from: str | None = None
    places: dict[str, Any] = field(default_factory=dict)
    subscribers: dict[str, dict[str, Any]] = field(default_factory=dict)


def deployment_text(name: str, answers: Answers) -> str:
    """The file's text."""
    return "\n".join(
        [*_head(name), "", *_source(answers), "", *_top(answers), *_places(answers), *_subscribers(answers)]
    )


def _head(name: str) -> Iterator[str]:
    yield f"# The deployment {name!r}, written by `export-pipeline init`. Select it with EXPORT_DEPLOYMENT={name}"
    yield "# All keys with defaults and descriptions: docs/configuration.md"
    yield "# Write a secret as {env: NAME}: Dagster's UI, logs and errors show only the name."


def _source(answers: Answers) -> Iterator[str]:
    model = _section("source")
    yield "source:"
    yield from _entry(model, "url", answers.source_url, _INDENT)
    yield from _entry(model, "layout", answers.layout, _INDENT)
    yield from _entry(model, "start_date", None, _INDENT)
    if answers.source_url.startswith(("s3://", "arn:")):
        yield f"{_INDENT}# Credentials come from boto3's usual chain: environment, ~/.aws, the role of the machine."
        for key in ("region_name", "profile_name", "endpoint_url"):
            yield from _entry(model, key, None, _INDENT)


def _top(answers: Answers) -> Iterator[str]:
    for key in ("frequency", "start_from"):
        yield from _entry(Deployment, key, getattr(answers, key), "")
    for key in ("max_files", "lookback_hours"):
        yield from _entry(Deployment, key, None, "")
    yield ""


def _places(answers: Answers) -> Iterator[str]:
    for name in ("ledger", "staging", "quarantine"):
        value = answers.places.get(name)
        yield from _comment(f"{Deployment.model_fields[name].description}", "")
        if value is None:
            yield f"# {name}: {{url: {_scalar(_section(name).model_fields['url'].default)}}}"
        else:
            yield f"{name}:"
            yield f"{_INDENT}url: {_scalar(value)}"
        yield ""


def _subscribers(answers: Answers) -> Iterator[str]:
    yield from _comment(Deployment.model_fields["subscribers"].description or "", "")
    if not answers.subscribers:
        yield "subscribers: {}"
        yield ""
        return
    yield "subscribers:"
    for name, options in answers.subscribers.items():
        yield f"{_INDENT}{name}:"
        known = resolve(options["type"])
        yield from _comment(" ".join((known.__doc__ or "").partition("\n\n")[0].split()), _INDENT * 2)
        yield f"{_INDENT * 2}type: {_scalar(options['type'])}"
        for key, value in options.items():
            if key != "type":
                yield from _entry(known, key, value, _INDENT * 2)
        for key in known.model_fields.keys() & {"since"} - options.keys():
            yield from _entry(Subscriber, key, None, _INDENT * 2)
    yield ""


def _section(name: str) -> type[BaseModel]:
    found = Deployment.model_fields[name].annotation
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise TypeError(f"{name} is not a section of a deployment file")
    return found


def _entry(model: type[BaseModel], key: str, value: Any, indent: str) -> Iterator[str]:
    """One key below its description; without a value the key is commented out, with its default."""
    fields = {found.alias or name: found for name, found in model.model_fields.items()}
    described = fields.get(key)
    if described is not None:
        yield from _comment(described.description or "", indent)
    if value is not None:
        yield f"{indent}{key}: {_scalar(value)}"
    elif described is not None:
        default = described.get_default(call_default_factory=True)
        yield f"{indent}# {key}: {_scalar(default) if default is not None else ''}".rstrip()


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(" ".join(text.replace("``", "").split()), _WIDTH - len(indent)):
        yield f"{indent}# {line}"


def _scalar(value: Any) -> str:
    """*value* in YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(inner)}" for key, inner in value.items()) + "}"
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
