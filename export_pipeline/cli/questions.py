"""The questions of ``init``: each is repeated until its answer is valid, and skipped if an option answers it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from export_pipeline.configuration.schedule import FREQUENCIES, cron_of
from export_pipeline.configuration.settings import ExportSettings, parse_start
from export_pipeline.configuration.subscribers import wrong_with_name
from export_pipeline.errors import ConfigurationError
from export_pipeline.source.layout import Layout
from export_pipeline.source.settings import SourceSettings
from export_pipeline.storage.location import parse_location
from export_pipeline.subscribers.base import secret_fields
from export_pipeline.subscribers.registry import known_types, resolve

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from export_pipeline.cli.session import Session

Check = Callable[[str], object]
"""Raises ValueError or ConfigurationError, with what is allowed, if an answer is invalid."""


class Questions:
    """Asks on the terminal.

    Args:
        is_silent: do not ask: without an option use the default; a missing default is an error.
    """

    def __init__(self, session: "Session", *, is_silent: bool) -> None:
        self._session = session
        self._is_silent = is_silent

    def answer(self, given: str | None, question: str, option: str, *, default: str | None, check: Check) -> str:
        """What was *given*, else the answer to *question*.

        Raises:
            ConfigurationError: what was given is invalid, or nothing was given and there is no default.
        """
        if given is None and self._is_silent:
            given = default
            if given is None:
                raise ConfigurationError(f"{option} is missing")
        if given is not None:
            try:
                check(given)
            except (ValueError, ConfigurationError) as error:
                raise ConfigurationError(f"{option}: found {given!r}; {error}") from None
            return given
        while True:
            found = self._ask(question, default)
            try:
                check(found)
            except (ValueError, ConfigurationError) as error:
                self._session.note(str(error))
            else:
                return found

    def confirm(self, question: str) -> bool:
        """Yes or no; no if silent."""
        return not self._is_silent and typer.confirm(question, default=False)

    def _ask(self, question: str, default: str | None) -> str:
        """Print the question on its own lines, wrapped to the terminal, and read the answer below it."""
        self._session.note(question)
        answer: str = typer.prompt(">", default=default, show_default=bool(default), prompt_suffix=" ")
        return answer

    def source(self, given: str | None) -> str:
        """The URL where raw files land."""
        question = "Where do the raw files land? (s3://bucket/prefix, gs://…, az://…, a folder, the ARN of a bucket)"
        return self.answer(given, question, "--source", default=None, check=parse_location)

    def layout(self, given: str | None) -> str:
        """How a key encodes its date."""
        default = str(SourceSettings.model_fields["layout"].default)
        question = "How does a key below that URL start? (a pattern of %Y, %m, %d, %j, %H, %M and plain text)"
        return self.answer(given, question, "--layout", default=default, check=Layout)

    def frequency(self, given: str | None) -> str:
        """How often the export runs."""
        default = str(ExportSettings.model_fields["frequency"].default)
        question = f"How often should it run? ({', '.join(FREQUENCIES)}, or a cron expression)"
        return self.answer(given, question, "--frequency", default=default, check=cron_of)

    def start_from(self, given: str | None) -> str:
        """Where the first run starts."""
        default = str(ExportSettings.model_fields["start_from"].default)
        question = "Where should the first run start? (beginning, now, or a date YYYY-MM-DD)"
        return self.answer(given, question, "--start-from", default=default, check=parse_start)

    def subscribers(self, given: dict[str, str], options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Name → type and options of each subscriber.

        Args:
            given: name → type, from the command line.
            options: name → options, from the command line.
        """
        strangers = options.keys() - given.keys()
        if strangers:
            raise ConfigurationError(
                f"--set: found {', '.join(sorted(strangers))}; allowed: names given with --subscriber"
            )
        found = {name: self._subscriber(name, type_name, options.get(name, {})) for name, type_name in given.items()}
        while not self._is_silent and not given:
            more = typer.confirm("Another subscriber?" if found else "Add a subscriber now?", default=not found)
            if not more:
                break
            name = self.answer(None, "Name of the subscriber?", "--subscriber", default=None, check=_checked_name)
            types = ", ".join(known_types())
            type_name = self.answer(
                None,
                f"Type of the subscriber? ({types}; or package.module:Class)",
                "--subscriber",
                default="webhook",
                check=resolve,
            )
            found[name] = self._subscriber(name, type_name, {})
        return found

    def _subscriber(self, name: str, type_name: str, given: dict[str, Any]) -> dict[str, Any]:
        _checked_name(name)
        known = resolve(type_name)
        secrets = secret_fields(known)
        answers: dict[str, Any] = {"type": type_name, **given}
        for key in secrets & given.keys():
            if isinstance(given[key], str):
                raise ConfigurationError(
                    f"--set {name}.{key}: a secret does not belong in the file; allowed: {name}.{key}=env:VARIABLE"
                )
        if self._is_silent:
            return answers
        for key, field in known.model_fields.items():
            is_wanted = field.is_required() or (key in secrets and not key.startswith(("aws_", "client_", "previous_")))
            if not is_wanted or key in given or field.annotation not in (str, str | None):
                continue
            found = self._option(name, key, field, is_secret=key in secrets)
            if found:
                answers[key] = found
        return answers

    def _option(self, name: str, key: str, field: "FieldInfo", *, is_secret: bool) -> Any:
        described = f"{key}: {field.description}"
        if not is_secret:
            return self._ask(described, None)
        default = f"{name}_{key}".upper() if field.is_required() else ""  # an empty answer leaves it out
        variable = self._ask(f"{described} Which environment variable holds it?", default)
        return {"env": variable} if variable else None


def _checked_name(name: str) -> None:
    wrong = wrong_with_name(name)
    if wrong:
        raise ConfigurationError("; ".join(wrong))
