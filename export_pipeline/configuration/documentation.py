"""Generate docs/configuration.md: ``python -m export_pipeline.configuration.documentation [--check]``."""

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

One YAML file describes one deployment. `EXPORT_DEPLOYMENT` selects it by name or path. A name refers to
`deployments/<name>.yaml` in the working folder, or else in the checkout of this project; a value that contains a slash
or ends in `.yaml` is a path. If the variable is not set, `deployments/local.yaml` in the working folder is read, or the
only file in its `deployments/`.

Dagster validates the whole file when it loads it, and reports all problems at once, each with file, line and key, what
was found and what is allowed:

<!-- output of: a deployment file with two mistakes -->
```text
deployments/production.yaml:12: frequency: found the text 'hourli'; allowed: one of ten_minutes, hourly, …
deployments/production.yaml:31: subscribers.crm.secret: the environment variable CRM_WEBHOOK_SECRET is not set
```

`{{env: NAME}}` is replaced with the value of an environment variable wherever text is allowed. Write every secret this
way: Dagster's UI, the logs and errors then show only the variable's name. A mapping whose only key is `env` is always
read as a reference to a variable.

Relative paths and `file:` URLs are resolved from the deployment, not from the working folder: from the folder that
contains `deployments/` if the file is anywhere below such a folder, otherwise from the file's own folder. So the ledger
of `deployments/mine.yaml` is `.dagster/export.db` next to `deployments/`, wherever you start a command. If the working
folder has a ledger of the same source, from a time when relative paths were resolved there, and the deployment's folder
has none, the file does not load, and the error says which path to set or where to move the ledger: a new ledger would
deliver everything again.

An environment variable that is not set, or has an invalid value, affects only what needs it. A variable of a subscriber
stops only this subscriber: its deliveries fail with the reason and stay owed, while all others continue. A variable of
an alert stops only this alert. Any other variable stops the whole deployment, and Dagster's UI shows why the code
location does not load. `export-pipeline check` reports all of them.

## Top-level keys

"""

_STORES = """\
## Options of every store

`source`, `staging` and `quarantine` accept these options in addition to `url`, for S3 and S3-compatible stores. Without
them, boto3's usual chain applies: environment, `~/.aws`, the role of the machine. For Google and Azure, set the
environment variables that obstore reads (`GOOGLE_…`, `AZURE_…`).

"""

_SUBSCRIBERS = """\
## subscribers

A mapping from a name of your choice to a destination. The name becomes part of the op `deliver_to_<name>`, and the name
of the resource and of the asset, so do not change it: a renamed subscriber is a new one. A name starts with a
lower-case letter, continues with `a`–`z`, digits and `_`, and has at most {max_name} characters. These names are
reserved: {reserved}, and names that Python or Dagster reserve, such as `class`, `type`, `config`, `context`, `input` or
`int`. A reserved name is an error with its line.

`type` is one of {types}, or `package.module:Class` for
[your own class](your_own_subscriber.md). The remaining options are those of the type; these are common to all types:

"""

_FREQUENCIES = """\
## Frequencies

| name | cron |
|---|---|
{rows}
"""


def page() -> str:
    """The whole page, the content of ``docs/configuration.md``."""
    sections = {name: field for name, field in Deployment.model_fields.items() if _model(field) is not None}
    scalars = {name: field for name, field in Deployment.model_fields.items() if name not in sections}
    parts = [_HEAD.format(command=_COMMAND), _table(_rows(scalars))]
    for name, field in sections.items():
        model = _model(field)
        shown = {key: value for key, value in model.model_fields.items() if key not in StoreSettings.model_fields}
        note = (
            " Also accepts the [options of every store](#options-of-every-store)."
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
    """Write the page, or with ``--check`` only verify that it is up to date; returns the exit code."""
    parser = argparse.ArgumentParser(description="Generate docs/configuration.md from the models.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the page is out of date")
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
    """The model of a section: of the field's value, or of each entry of its list."""
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
