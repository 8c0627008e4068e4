"""Classify the errors of dlt and of database drivers."""

import re
from collections.abc import Iterable, Iterator

from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.files import LASTING
from export_pipeline.subscribers.scrubbing import scrub

_CONFIGURATION = re.compile(
    r"authentication failed|password|permission denied|access ?denied|not authorized|unauthorized|forbidden|"
    r"SignatureDoesNotMatch|InvalidAccessKeyId|InvalidToken|ExpiredToken|NoSuchBucket|"
    r"database \S+ does not exist|role \S+ does not exist|Missing \d+ fields? in|no such host|invalid credentials|"
    r"ConfigFieldMissingException|MissingDependencyException|UnknownDestinationModule|is not a directory|"
    r"not a valid DuckDB database",
    re.IGNORECASE,
)
# dlt treats these as temporary; they are caused by the data.
_DATA = re.compile(
    r"invalid byte sequence|invalid input syntax|unsupported unicode escape|value too long|out of range|"
    r"conversion error|violates|could not convert|numeric value|\bdata ?error\b|type mismatch|ConversionException",
    re.IGNORECASE,
)
# Another process inserted the same event at the same moment: the next attempt finds it.
_DUPLICATE = re.compile(r"duplicate key value violates unique constraint", re.IGNORECASE)
# Tracebacks, where dlt looked for an option, and its advice about a working folder that is already deleted.
_BESIDE = re.compile(r"Traceback \(most recent|\sfor field `|Pending packages are left")
_GONE = (
    "dlt records what it has created in the tables _dlt_version and _dlt_pipeline_state of the same schema: if you "
    "dropped a table or column on purpose, drop these tables, too, and dlt creates it again"
)


def meaning(error: Exception, destination: str, secrets: Iterable[str]) -> DeliveryError:
    """The delivery error that an *error* of dlt means; examines all the errors that it wraps."""
    from dlt.common.configuration.exceptions import ConfigFieldMissingException
    from dlt.common.destination.exceptions import DestinationTerminalException
    from dlt.common.schema.exceptions import DataValidationError
    from dlt.destinations.exceptions import DatabaseUndefinedRelation

    chain = list(_chain(error))
    for inner in chain:
        if isinstance(inner, DeliveryError):
            return inner
    said = list(dict.fromkeys(_text_of(inner) for inner in reversed(chain)))
    told = " / ".join(said)
    # The first is the driver's, the second may say what dlt was doing; the rest repeats them.
    text = scrub(f"{destination}: {' / '.join(said[:2])}", secrets)
    if _DUPLICATE.search(told):
        return TryLater(text)
    kinds = " ".join(type(inner).__name__ for inner in chain)
    if any(isinstance(inner, DataValidationError) for inner in chain) or _DATA.search(f"{told} {kinds}"):
        return Refused(text)
    if any(isinstance(inner, ConfigFieldMissingException) for inner in chain):
        missing = scrub(f"{destination}: {said[0]}", secrets)
        return Blocked(f"{missing}; set url, connection or credentials as described in dlt's documentation")
    if any(isinstance(inner, DatabaseUndefinedRelation) for inner in chain):
        return Blocked(f"{text}. {_GONE}")
    is_lasting = (
        _CONFIGURATION.search(f"{told} {kinds}")
        or any(isinstance(inner, OSError) and inner.errno in LASTING for inner in chain)
        # A terminal error of the destination that does not mention the data is not caused by the events.
        or any(isinstance(inner, DestinationTerminalException) for inner in chain)
    )
    return Blocked(text) if is_lasting else TryLater(text)


# Classes of SQLSTATE, and codes that differ from their class. https://www.postgresql.org/docs/current/errcodes-appendix.html
_OF_THE_EVENT = ("22", "23", "54", "P0")
_OF_A_PERSON = ("0A", "25", "28", "3D", "3F", "42", "F0")
_LASTING_CODES = ("53100",)  # the disk is full
# Another load was faster, or this one too slow.
_PASSING_CODES = ("23505", "25P03", "42P05", "42P06", "42P07", "42701")
_NOT_NULL = "23502"
_TRIGGERS = "P0"  # errors of PL/pgSQL

_OUR_KEYS = re.compile(r"Key \((_event_id|table_name, column_name)\)=")


def meaning_of_postgres(error: Exception, secrets: Iterable[str]) -> DeliveryError:
    """The delivery error that an *error* of psycopg2 means."""
    if isinstance(error, DeliveryError):
        return error
    code = getattr(error, "pgcode", None) or ""
    said = " ".join(str(error).split()) or type(error).__name__
    text = scrub(f"postgres: {said}", secrets)
    if code == "23505" and not _OUR_KEYS.search(said):
        return Refused(text)  # by a constraint that a user added
    if code in _PASSING_CODES:
        return TryLater(text)
    if code in _LASTING_CODES or code.startswith(_OF_A_PERSON):
        return Blocked(text)
    if code.startswith(_OF_THE_EVENT):
        # A column or trigger that a user added may refuse every event, whatever is in it.
        is_suspected = code == _NOT_NULL or code.startswith(_TRIGGERS)
        return Refused(text, suspected=scrub(_primary(error), secrets) if is_suspected else "")
    # A failed connection has no code; nor do libpq's errors about its options.
    unnamed = _NAMES.sub('""', said)
    is_lasting = not code and (_CONFIGURATION.search(unnamed) or "invalid" in unnamed)
    return Blocked(text) if is_lasting else TryLater(text)


def _primary(error: Exception) -> str:
    """The message without its details, which quote the event."""
    diagnostics = getattr(error, "diag", None)
    return f"postgres: {getattr(diagnostics, 'message_primary', None) or type(error).__name__}"


_DUCKDB_EVENT = ("ConversionException", "OutOfRangeException", "ConstraintException")
_DUCKDB_PERSON = ("CatalogException", "BinderException", "PermissionException", "NotImplementedException")
_DUCKDB_FILE = re.compile(
    r"no space left|permission denied|read[- ]only|not a valid DuckDB database|is a directory|not a directory|"
    r"newer version|older version|storage version",
    re.IGNORECASE,
)


_DUCKDB_NOT_NULL = "NOT NULL constraint failed"
_DUCKDB_LOCK = "Could not set lock on file"
_NAMES = re.compile(r"\"[^\"]*\"|'[^']*'")
"""Files, hosts and databases in messages, in quotes: a file in ``read-only/`` is not read-only."""


def meaning_of_duckdb(error: Exception) -> DeliveryError:
    """The delivery error that an *error* of DuckDB means."""
    if isinstance(error, DeliveryError):
        return error
    text = f"duckdb: {' '.join(str(error).split()) or type(error).__name__}"
    kind = type(error).__name__
    if kind in _DUCKDB_EVENT:  # first: its text may quote the event
        # A column that a user added may refuse every event, whatever is in it.
        return Refused(text, suspected=text if _DUCKDB_NOT_NULL in text else "")
    is_locked = _DUCKDB_LOCK in text  # its advice is to open the file in read-only mode
    if kind in _DUCKDB_PERSON or (not is_locked and _DUCKDB_FILE.search(_NAMES.sub('""', text))):
        return Blocked(text)
    if kind == "InvalidInputException":
        return Refused(text)
    if isinstance(error, OSError) and error.errno in (*LASTING, None):
        return Blocked(text)
    return TryLater(text)


def _text_of(error: BaseException) -> str:
    """The text of *error* on one line, without dlt's additions in _BESIDE."""
    return " ".join(_BESIDE.split(str(error), 1)[0].split()) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
