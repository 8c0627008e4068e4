"""What all commands share: common options, output without secrets, errors, exit codes, and reading the ledger."""

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from export_pipeline.errors import ConfigurationError, ExportError
from export_pipeline.printable import printable_json, printable_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from sqlalchemy import Connection

    from export_pipeline.cli.outline import Outline
    from export_pipeline.deployment import Deployment

FAILED, WRONG_USAGE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141
"""Exit codes beside 0. Documented in docs/command_line.md."""

_BY_NAME = inspect.Parameter.KEYWORD_ONLY
_PLAIN_WIDTH = 10_000
"""Width if the output is not a terminal: nothing is wrapped or truncated."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_DeploymentOption = Annotated[
    str | None,
    typer.Option(
        "--deployment",
        "-d",
        metavar="NAME|PATH",
        help="The deployment file: a name under deployments/, or a path. By default EXPORT_DEPLOYMENT, "
        "otherwise deployments/local.yaml, or the only file in deployments/.",
        show_default=False,
    ),
]
_TracebackOption = Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")]


class Session:
    """One call of a command.

    Attributes:
        name: the deployment that was named; None: that of EXPORT_DEPLOYMENT, otherwise that of the working folder.
        secrets: values that must never be printed; known once the deployment file was read.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.secrets: frozenset[str] = frozenset()

    def outline(self) -> "Outline":
        """The deployment's locations, without its subscribers' classes: fast."""
        from export_pipeline.cli.outline import load_outline

        found = load_outline(self.name)
        self.secrets = found.secrets
        return found

    def deployment(self, *, without_variables: bool = False) -> "Deployment":
        """The whole deployment.

        Args:
            without_variables: as for :func:`export_pipeline.deployment.load_deployment`.
        """
        from export_pipeline.deployment import load_deployment

        found = load_deployment(self.name, without_variables=without_variables)
        self.secrets = found.secret_values()
        return found

    def clean(self, text: str) -> str:
        """*text* with secrets removed, and control characters escaped."""
        return printable_lines(self._scrubbed(text))

    def show(self, *what: "RenderableType") -> None:
        """Print to standard output; text is wrapped only in a terminal. Text in renderables must be clean already."""
        self.print_to(console_on(sys.stdout), *what)

    def note(self, *what: "RenderableType") -> None:
        """Print to standard error: everything that is not the result itself."""
        self.print_to(console_on(sys.stderr), *what)

    def show_json(self, value: object) -> None:
        """Print *value* as JSON."""
        print(printable_json(self._scrubbed(json.dumps(value, indent=2, ensure_ascii=False))))

    @property
    def width(self) -> int:
        """Width of standard output in columns; very large if it is not a terminal."""
        return console_on(sys.stdout).width

    def print_to(self, console: "Console", *what: "RenderableType") -> None:
        """Print to *console*, as :meth:`show` does."""
        cleaned = [self.clean(one) if isinstance(one, str) else one for one in what]
        if console.is_terminal:
            console.print(*cleaned, sep="\n")
            return
        with console.capture() as printed:
            console.print(*cleaned, sep="\n", soft_wrap=True)
        # rich pads the last column of a table with spaces.
        console.file.write("".join(line.rstrip() + "\n" for line in printed.get().splitlines()))

    def _scrubbed(self, text: str) -> str:
        from export_pipeline.secrets import scrub

        return scrub(text, self.secrets)


def command(app: typer.Typer, name: str, *, of_deployment: bool = True) -> Callable[[Callable[..., int | None]], None]:
    """Register a function as the command *name* of *app*.

    It is called with a :class:`Session` and its own options, and returns the exit code (None: 0). The options that all
    commands share are added to its own.

    Args:
        of_deployment: whether it has the option ``--deployment``.
    """

    def register(function: Callable[..., int | None]) -> None:
        @wraps(function)
        def run(*, traceback: bool, deployment: str | None = None, **options: Any) -> NoReturn:
            session = Session(deployment)
            with _errors_shown(session, traceback=traceback):
                raise typer.Exit(function(session, **options) or 0)

        own = inspect.signature(function)
        _, *options = own.parameters.values()
        shared = [inspect.Parameter("traceback", _BY_NAME, default=False, annotation=_TracebackOption)]
        if of_deployment:
            shared.insert(0, inspect.Parameter("deployment", _BY_NAME, default=None, annotation=_DeploymentOption))
        run.__signature__ = own.replace(  # type: ignore[attr-defined]  # typer reads the options from it
            parameters=[*(one.replace(kind=_BY_NAME) for one in options), *shared]
        )
        app.command(name)(run)

    return register


@dataclass(frozen=True, slots=True)
class LedgerView:
    """A ledger opened for reading.

    Attributes:
        description: its URL without the password, or a note that there is no ledger yet.
        known: a transaction and the source's id in it; None if no run has seen the source yet.
    """

    description: str
    known: "tuple[Connection, int] | None" = None


@contextmanager
def looking_at_ledger(url: str, source_url: str) -> Iterator[LedgerView]:
    """Open the ledger at *url* for reading what it knows about one source; nothing is created or changed.

    Raises:
        LedgerError: it is of another version, or its database failed.
    """
    from export_pipeline.errors import LedgerMissing
    from export_pipeline.ledger import sources
    from export_pipeline.ledger.database import Ledger

    with database_errors_told():
        try:
            ledger = Ledger(url, create=False)
        except LedgerMissing:
            yield LedgerView("none yet: the first run creates it")
            return
        with closing(ledger), ledger.read() as tx:
            source_id = sources.source_id(tx, source_url)
            yield LedgerView(ledger.description, None if source_id is None else (tx, source_id))


@contextmanager
def database_errors_told() -> Iterator[None]:
    """Turn SQLAlchemy's error for a failing ledger database into a LedgerError of one line."""
    from sqlalchemy.exc import DBAPIError

    from export_pipeline.errors import LedgerError

    try:
        yield
    except DBAPIError as error:
        raise LedgerError(f"the ledger's database failed: {_first_line(error.orig or error)}") from error


def as_plain(value: Any) -> Any:
    """*value*, such as a dataclass or named tuple, as JSON values: times and dates in ISO 8601."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if is_dataclass(value):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: as_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


def console_on(stream: TextIO) -> "Console":
    """A console that prints text as it is, and wraps it only in a terminal."""
    from rich.console import Console

    is_plain = not stream.isatty()
    # No markup or highlighting: brackets and digits in a key have no meaning.
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=_PLAIN_WIDTH if is_plain else None)


@contextmanager
def _errors_shown(session: Session, *, traceback: bool) -> Iterator[None]:
    """Turn what a command raises into a message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A key can contain characters that the terminal's encoding, or any encoding, cannot represent.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        yield
        sys.stdout.flush()
    except typer.Exit:
        raise
    except BrokenPipeError:
        # The reader closed the pipe early, as in `… | head`. Python would report an error when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    except KeyboardInterrupt:
        session.note("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:  # noqa: BLE001 (reported below, and the exit code is 1)
        _tell(session, error, traceback=traceback)
        raise typer.Exit(WRONG_USAGE if isinstance(error, ConfigurationError) else FAILED) from None


def _tell(session: Session, error: Exception, *, traceback: bool) -> None:
    if traceback:
        import traceback as traces

        session.note("".join(traces.format_exception(error)).rstrip("\n"))
        return
    from rich.text import Text

    text = str(error)
    if not isinstance(error, ExportError):
        text = f"{type(error).__name__}: {_first_line(error)}\nUnexpected error; --traceback shows the details."
    # Each problem of a deployment file starts with file and line, which editors and terminals turn into a link.
    separator = "\n" if isinstance(error, ConfigurationError) and "\n" in text else " "
    session.note(Text.assemble(("error:", "bold red"), separator, session.clean(text)))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
