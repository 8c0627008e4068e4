"""Writes docs/configuration.md from the models: ``python -m export_pipeline.configuration.documentation [--check]``."""

import argparse
import sys
import types
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from export_pipeline.configuration.schedule import FREQUENCIES
from export_pipeline.configuration.subscribers import MAX_NAME_CHARACTERS, RESERVED_NAMES
from export_pipeline.deployment import Deployment
from export_pipeline.secrets import EnvRef
from export_pipeline.storage.settings import StoreSettings
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.registry import known_types

PAGE = Path("docs/configuration.md")
_COMMAND = "make docs-generate"
_TYPES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    date: "date",
    list: "list",
    dict: "mapping",
}

_HEAD = """\
# Configuration

<!-- Written by `{command}` from the models in export_pipeline/; do not edit. -->

One YAML file describes one deployment. `EXPORT_DEPLOYMENT` names it: a name is looked for as `deployments/<name>.yaml`
in the working folder, then in the checkout of this project; anything with a slash in it, or that ends in `.yaml`, is a
path. Where the variable is not set, `deployments/local.yaml` of the working folder is read, or the only file in its
`deployments/`.

The whole file is checked when Dagster loads it. An error lists every problem with file, line and key, what was found
and what is allowed:

<!-- output of: a deployment file with two mistakes -->
```text
deployments/production.yaml:12: frequency: found the text 'hourli'; allowed: one of ten_minutes, hourly, …
deployments/production.yaml:31: subscribers.crm.secret: the environment variable CRM_WEBHOOK_SECRET is not set
```

`{{env: NAME}}` stands for the value of an environment variable wherever a text is allowed. Write every secret so:
Dagster's UI, the logs and errors show the variable's name at most. A mapping whose only key is `env` is always read so.

Paths and `file:` URLs without a leading slash belong to the deployment, not to the folder that a command runs in: they
start at the folder that holds `deployments/`, where the file lies anywhere below such a folder, else at the file's own
folder. So `deployments/mine.yaml` has its ledger in `.dagster/export.db` beside `deployments/`, from wherever it is
started. Where the working folder has a ledger of the same source, made when relative paths still started there, and
the deployment's folder has none, loading refuses, and says which path to set or where to move it: a new ledger would
deliver everything again.

A variable that is not set, or whose value cannot be used, stops what needs it: that of a subscriber only this
subscriber, whose deliveries fail with the reason and stay owed, while all others go on; that of an alert only this
alert; any other one the whole deployment, and Dagster's UI shows why the code location does not load.
`export-pipeline check` reports all.

## The keys at the top

"""

_STORES = """\
## Options of every store

`source`, `staging` and `quarantine` take these beside `url`, for places in S3 and what speaks its protocol. What is not
given comes from boto3's usual chain: environment, `~/.aws`, the role of the machine. Google and Azure take their
credentials from the environment variables of obstore (`GOOGLE_…`, `AZURE_…`).

"""

_SUBSCRIBERS = """\
## subscribers

A mapping from a name of your choice to a destination. The name becomes part of the op `deliver_to_<name>`, and the name
of the resource and of the asset, so keep it: a renamed subscriber is a new one. It begins with a lower-case letter,
goes on with `a`–`z`, digits and `_`, has at most {max_name} characters, and is neither one of {reserved}
nor a name that Python or Dagster reserves, such as `class`, `type`, `config`, `context`, `input` or `int`: those are
refused when the file is read, with the line.

`type` is one of {types}, or `package.module:Class` for a class of
your own ([how](your_own_subscriber.md)). The remaining options are those of the type; these are common to all:

"""

_FREQUENCIES = """\
## Frequencies

| name | cron |
|---|---|
{rows}
"""


def page() -> str:
    """The whole page, as it belongs into ``docs/configuration.md``."""
    sections = {name: field for name, field in Deployment.model_fields.items() if _model(field) is not None}
    scalars = {name: field for name, field in Deployment.model_fields.items() if name not in sections}
    parts = [_HEAD.format(command=_COMMAND), _table(_rows(scalars))]
    for name, field in sections.items():
        model = _model(field)
        shown = {key: value for key, value in model.model_fields.items() if key not in StoreSettings.model_fields}
        note = (
            " Also takes the [options of every store](#options-of-every-store)."
            if issubclass(model, StoreSettings)
            else ""
        )
        parts.append(f"\n## {name}\n\n{field.description}{note}\n\n{_table(_rows(shown))}")
        for inner, inside in shown.items():
            if (nested := _model(inside)) is not None:
                rows = _table(_rows(nested.model_fields))
                parts.append(f"\n### {name}.{inner}\n\n{inside.description}\n\n{rows}")
    parts.append("\n" + _STORES + _table(_rows(StoreSettings.model_fields)))
    names = ", ".join(f"`{name}`" for name in sorted(RESERVED_NAMES))
    known = ", ".join(f"`{name}`" for name in known_types())
    parts.append("\n" + _SUBSCRIBERS.format(max_name=MAX_NAME_CHARACTERS, reserved=names, types=known))
    parts.append(_table(_rows(Subscriber.model_fields)))
    rows = "\n".join(f"| `{name}` | `{cron}` |" for name, cron in FREQUENCIES.items())
    parts.append("\n" + _FREQUENCIES.format(rows=rows))
    return "".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with ``--check`` only say whether it is up to date; the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/configuration.md from the models.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page is out of date")
    if parser.parse_args(arguments).check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE} is out of date; run: {_COMMAND}", file=sys.stderr)
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def _rows(fields: dict[str, FieldInfo]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in fields.items():
        if name == "subscribers":
            yield f"`{name}`", "mapping", "none", f"{field.description} See [subscribers](#subscribers)."
            continue
        yield (
            f"`{field.alias or name}`",
            _type(field.annotation),
            _default(field),
            " ".join((field.description or "").split()),
        )


def _table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _model(field: FieldInfo) -> Any:
    """The model of a section: of the field's value, or of each of its entries."""
    found = field.annotation
    if get_origin(found) in (Union, types.UnionType):
        found = next((member for member in get_args(found) if _is_model(member) and member is not EnvRef), None)
    if get_origin(found) is list:
        (found,) = get_args(found)
    return found if _is_model(found) else None


def _is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = [_type(member) for member in get_args(annotation) if member is not types.NoneType]
        return " or ".join(dict.fromkeys(members))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if annotation is EnvRef:
        return "`{env: NAME}`"
    if _is_model(annotation):
        return "mapping"
    return _TYPES[get_origin(annotation) or annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


if __name__ == "__main__":
    sys.exit(main())
