# ruff: noqa: E501 (the rows of a Markdown table cannot be broken)
"""Writes docs/subscribers.md from the classes: ``python -m export_pipeline.subscribers.documentation [--check]``."""

import argparse
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from export_pipeline.storage.settings import StoreSettings
from export_pipeline.subscribers import mapping
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.registry import DISTRIBUTION, known_types, resolve

PAGE = Path("docs/subscribers.md")
COMMAND = "make docs-generate"
_TYPES: Mapping[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}

_HEAD = """\
# Subscribers

<!-- Written by `{command}` from the classes in export_pipeline/subscribers/; do not edit. -->

A subscriber is a destination. Each entry under `subscribers` in the deployment file is one; its `type` is one of these,
or [your own class](your_own_subscriber.md).

{types}

Install the extras of the types you use, such as `pip install "{distribution}[kafka,warehouse]"`.

## What happens to a batch

Before a batch is sent, events are selected (`only`, `except`), fields are removed (`drop_fields`), and the batch is
cut into requests that the destination accepts. Then, for every destination:

| response | what happens |
|---|---|
| accepted | the batch is done, and its acceptance is recorded in the ledger |
| some events refused | these go to the quarantine (the dead letters) with the reason; the others are done |
| try later: no response, 408, 425, 429, 5xx, throttling | the same request is retried, with the same ids, after a random wait of at most 0.5 seconds, whose limit doubles up to 10 seconds, or as long as `Retry-After` requests, if that is longer; after `retry_for_seconds` the batch is left to the next run, which tries at once |
| blocked: 401, 403, 404, 410, a redirect, wrong configuration; from Segment, Mixpanel, Amplitude and PostHog also a 200 whose body does not confirm the events | nothing is retried in this run, and the run fails with the reason; all events stay owed until you fix the cause |
| refused: 400, 413, 422 | the request is halved until the refused events are isolated; they go to the quarantine, the others are delivered. It counts as *blocked* if the first 100 events are refused one by one and none is accepted, or if every event of a batch of two or more, or its first 100, is refused for the same reason and that may be an error of the destination (a failing script, a full mapping, a view or trigger that raises an error, a column that must not be null, a topic that accepts no messages) |

Every event is counted as accepted, refused or filtered, and the three add up to the events of the batch.

## Options of every subscriber

{common}
## Values at paths, and mappings

`only`, `except`, `drop_fields` and the mappings address values in an event by dotted paths: `endpoint.User.UserId`; a
number indexes a list, `endpoint.Attributes.DeviceMake.0`. A mapping defines what is sent for an event:

{language}
"""


def page() -> str:
    """The complete text of ``docs/subscribers.md``."""
    kinds = {name: resolve(name) for name in known_types()}
    rows = [(f"[`{name}`](#{name})", _summary(kind), _extra(name) or "–") for name, kind in kinds.items()]
    head = _HEAD.format(
        command=COMMAND,
        distribution=DISTRIBUTION,
        types=_table(("type", "what it does", "extra"), rows),
        common=_options(Subscriber.model_fields, set()),
        language=_language(),
    )
    return head + "".join(_section(name, kind) for name, kind in kinds.items())


def example(name: str) -> str:
    """A complete ``subscribers:`` part of a deployment file with a subscriber of this type."""
    text = (
        files("export_pipeline.subscribers").joinpath("examples").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    )
    return "subscribers:\n" + textwrap.indent(text, "  ")


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with ``--check`` only test whether it is up to date; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/subscribers.md from the classes.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the page is out of date")
    if parser.parse_args(arguments).check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE} is out of date; run: {COMMAND}", file=sys.stderr)
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def _section(name: str, kind: type[Subscriber]) -> str:
    extra = _extra(name)
    install = f'Needs an extra: `pip install "{DISTRIBUTION}[{extra}]"`.\n\n' if extra else ""
    common = Subscriber.model_fields
    own = {
        option: info
        for option, info in kind.model_fields.items()
        if option not in common or _default(info) != _default(common[option])
    }
    text = _markdown(inspect.getdoc(kind) or "")
    return f"\n## {name}\n\n{text}\n\n{install}```yaml\n{example(name)}```\n\n{_options(own, secret_fields(kind))}{_default_mapping(kind)}"


def _default_mapping(kind: type[Subscriber]) -> str:
    """The default mapping of a type, if it has one."""
    default = getattr(kind, "default_mapping", None)
    if default is None:
        return ""
    told = yaml.dump(default, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return f"\nDefault mapping:\n\n```yml\n{told}```\n"


class _Dumper(yaml.SafeDumper):
    """Writes no anchors for values that occur several times."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _options(fields: Mapping[str, FieldInfo], secrets: AbstractSet[str]) -> str:
    rows = (
        (
            f"`{info.alias or name}`",
            _type(_annotation(name, info)) + (", secret" if name in secrets else ""),
            _default(info),
            _markdown(" ".join((info.description or "").split())),
        )
        # Required options first, then the type's own, then the options of a store.
        for name, info in sorted(
            fields.items(), key=lambda item: (not item[1].is_required(), item[0] in StoreSettings.model_fields)
        )
    )
    return _table(("option", "value", "default", "meaning"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _language() -> str:
    """The table in the docstring of the mapping language."""
    rows = re.findall(r"^``(.+?)``\s{2,}(.+)$", mapping.__doc__ or "", re.MULTILINE)
    table = _table(("mapping", "result"), ((f"`{form}`", _markdown(text)) for form, text in rows))
    rest = (mapping.__doc__ or "").rpartition("====")[2]
    return table + "\n" + _markdown(" ".join(rest.split()))


def _extra(name: str) -> str:
    return ",".join(known_types()[name].extras)


def _summary(kind: type[Subscriber]) -> str:
    return (
        _markdown((inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")).partition(". ")[0].rstrip(".")
    )


def _markdown(text: str) -> str:
    """Restructured text's literals as Markdown's."""
    return text.replace("``", "`")


def _annotation(name: str, info: FieldInfo) -> Any:
    """The option's type in deployment files; differs for store options for which Dagster's config has no type."""
    told = StoreSettings.model_fields.get(name)
    return told.annotation if info.annotation is Any and told is not None else info.annotation


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(member) for member in inner if member is not types.NoneType)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is list:
        return "list" if inner[0] is Any else f"list of {_type(inner[0])}"
    if origin is dict:
        return "mapping" if inner[1] is Any else f"mapping of {_type(inner[1])}"
    return _TYPES[annotation]


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, list):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.exit(main())
