"""``export-pipeline init``: write a deployment file, from a few questions or from options."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from export_pipeline.cli.session import Session
from export_pipeline.configuration.location import VARIABLE, chosen
from export_pipeline.configuration.scaffold import write_settings
from export_pipeline.errors import ConfigurationError

NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="Name of the deployment; the file is deployments/NAME.yaml.", show_default=False
    ),
]
SourceOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Where raw files land: s3://…, gs://…, az://…, a folder, an ARN.")
]
LayoutOption = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="How a key encodes its date; %Y/%m/%d by default.")
]
FrequencyOption = Annotated[
    str | None, typer.Option(metavar="NAME|CRON", help="How often to export; ten_minutes by default.")
]
StartOption = Annotated[str | None, typer.Option(metavar="beginning|now|DATE", help="Where the first run starts.")]
PlaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--place",
        metavar="NAME=URL",
        help="Location of ledger, staging or quarantine: ledger=env:LEDGER_URL, staging=s3://…. Local by default.",
    ),
]
SubscriberOption = Annotated[
    list[str] | None,
    typer.Option("--subscriber", "-s", metavar="NAME=TYPE", help="A subscriber; can be given several times."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME.KEY=VALUE", help="An option of a subscriber; env:NAME refers to an environment variable."
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the file here instead.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: use options and defaults.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]

_MISSING_VARIABLE = re.compile(r"the environment variable (\w+) is (?:not set|empty)$")
_PLACES = ("ledger", "staging", "quarantine")


def init(
    session: Session,
    name: NameArgument = None,
    *,
    source: SourceOption = None,
    layout: LayoutOption = None,
    frequency: FrequencyOption = None,
    start_from: StartOption = None,
    place: PlaceOption = None,
    subscriber: SubscriberOption = None,
    option: SetOption = None,
    output: OutputOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
) -> None:
    """Write a deployment file, with comments, and validate it.

    Also writes workspace.yaml and dagster.yaml, which Dagster reads, if the folder has none. Asks for what is not given
    as an option. An existing file is overwritten only if you confirm, or with --force. Never asks for a secret: only
    for the name of the environment variable that holds it.
    """
    from export_pipeline.cli.deployment_text import Answers, deployment_text
    from export_pipeline.cli.questions import Questions

    if not yes and not sys.stdin.isatty():
        raise ConfigurationError("cannot ask questions without a terminal; give --yes, and the answers as options")
    questions = Questions(session, is_silent=yes)
    asked = "mine" if output is None else output.stem
    name = questions.answer(
        name,
        "Name of the deployment? The file is deployments/<name>.yaml.",
        "NAME",
        default=asked,
        check=_file_name,
    )
    path = output or Path("deployments") / f"{name}.yaml"
    if path.exists() and not force and not questions.confirm(f"{path} exists. Overwrite it?"):
        raise ConfigurationError(f"{path} exists and was not changed; --force overwrites it")
    answers = Answers(
        source_url=questions.source(source),
        layout=questions.layout(layout),
        frequency=questions.frequency(frequency),
        start_from=questions.start_from(start_from),
        places=_places(place or ()),
        subscribers=questions.subscribers(_pairs(subscriber or (), "--subscriber"), _options(option or ())),
    )
    text = deployment_text(name, answers)
    missing = _checked(text, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    session.show(f"wrote {path}")
    made = write_settings() if output is None else []
    if made:
        session.show(f"wrote {' and '.join(made)}: what Dagster loads here, and its settings")
    if missing:
        session.show(f"set these environment variables before the first run: {', '.join(missing)}")
    choose = "" if _is_default(path) else f"export {VARIABLE}={name if output is None else path}; "
    session.show(f"next: {choose}export-pipeline check; export-pipeline dev")


def _is_default(path: Path) -> bool:
    """Whether commands in this folder use the deployment file *path* by default."""
    try:
        return chosen(None).path == path
    except ConfigurationError:
        return False


def _file_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigurationError("allowed: letters, digits, dots, hyphens and underscores")


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """Each NAME=VALUE as name → value."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise ConfigurationError(f"{option}: found {name!r} without a value; allowed: NAME=VALUE")
        found[name] = value
    return found


def _places(given: Sequence[str]) -> dict[str, Any]:
    found = {name: _value(value) for name, value in _pairs(given, "--place").items()}
    strangers = [name for name in found if name not in _PLACES]
    if strangers:
        raise ConfigurationError(f"--place: found {', '.join(strangers)}; allowed: {', '.join(_PLACES)}")
    return found


def _options(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each NAME.KEY=VALUE as name → key → value."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in _pairs(given, "--set").items():
        name, dot, key = path.partition(".")
        if not dot:
            raise ConfigurationError(f"--set: found {path!r}; allowed: NAME.KEY=VALUE")
        found.setdefault(name, {})[key] = _value(value)
    return found


def _value(text: str) -> Any:
    """The value of *text*: a reference to a variable, or what YAML reads it as."""
    from export_pipeline.configuration.document import read_document

    if text.startswith("env:"):
        return {"env": text.removeprefix("env:")}
    document = read_document(f"value: {text}".encode("utf-8", "surrogateescape"))
    return text if document.problems else document.tree["value"]


def _checked(text: str, path: Path) -> list[str]:
    """Names of the variables that are not set yet.

    Raises:
        ConfigurationError: the file's *text* is invalid in any other way; nothing was written.
    """
    from export_pipeline.deployment import load_deployment

    with TemporaryDirectory() as folder:
        draft = Path(folder) / path.with_suffix(".yaml").name
        draft.write_text(text, encoding="utf-8")
        try:
            load_deployment(str(draft), root=Path.cwd())
        except ConfigurationError as error:
            found = {line: _MISSING_VARIABLE.search(line) for line in str(error).splitlines()}
            wrong = [line.replace(str(draft), str(path)) for line, match in found.items() if match is None]
            if wrong:
                told = "\n".join(wrong)
                raise ConfigurationError(f"nothing was written, because the file would be invalid:\n{told}") from None
            return sorted({match[1] for match in found.values() if match})
    return []
