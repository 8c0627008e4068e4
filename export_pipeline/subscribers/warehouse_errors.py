"""What an error of dlt, or of a driver behind it, means for the batch that was loaded."""

import re
from collections.abc import Iterable, Iterator

from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.files import LASTING
from export_pipeline.subscribers.scrubbing import scrub

_CONFIGURATION = re.compile(
    r"authentication failed|password|permission denied|access denied|not authorized|unauthorized|forbidden|"
    r"database \S+ does not exist|role \S+ does not exist|Missing \d+ fields? in|no such host|invalid credentials|"
    r"ConfigFieldMissingException|MissingDependencyException|UnknownDestinationModule|is not a directory|"
    r"not a valid DuckDB database",
    re.IGNORECASE,
)
# dlt takes these for failures that pass; they are the data's.
_DATA = re.compile(
    r"invalid byte sequence|invalid input syntax|unsupported unicode escape|value too long|out of range|"
    r"conversion error|violates|could not convert|numeric value|\bdata ?error\b|type mismatch|ConversionException",
    re.IGNORECASE,
)
# Another process inserted the same event at the same moment: the next try finds it there.
_DUPLICATE = re.compile(r"duplicate key value violates unique constraint", re.IGNORECASE)
_GONE = (
    "dlt keeps note in the tables _dlt_version and _dlt_pipeline_state of the same schema of what it has made: where a "
    "table or column was removed on purpose, remove these too, and it is made anew"
)


def meaning(error: Exception, destination: str, secrets: Iterable[str]) -> DeliveryError:
    """What an *error* of dlt's means for the batch: it is looked for in all that it wraps."""
    from dlt.common.destination.exceptions import DestinationTerminalException
    from dlt.common.schema.exceptions import DataValidationError
    from dlt.destinations.exceptions import DatabaseUndefinedRelation

    chain = list(_chain(error))
    for inner in chain:
        if isinstance(inner, DeliveryError):
            return inner
    said = list(dict.fromkeys(_text_of(inner) for inner in reversed(chain)))
    told = " / ".join(said)
    # The first is the driver's, the second may say what dlt was about; the rest repeats them.
    text = scrub(f"{destination}: {' / '.join(said[:2])}", secrets)
    if _DUPLICATE.search(told):
        return TryLater(text)
    kinds = " ".join(type(inner).__name__ for inner in chain)
    if any(isinstance(inner, DataValidationError) for inner in chain) or _DATA.search(f"{told} {kinds}"):
        return Refused(text)
    if any(isinstance(inner, DatabaseUndefinedRelation) for inner in chain):
        return Blocked(f"{text}. {_GONE}")
    is_lasting = (
        _CONFIGURATION.search(f"{told} {kinds}")
        or any(isinstance(inner, OSError) and inner.errno in LASTING for inner in chain)
        # What the destination calls hopeless without a word about the data is no fault of the events.
        or any(isinstance(inner, DestinationTerminalException) for inner in chain)
    )
    return Blocked(text) if is_lasting else TryLater(text)


def _text_of(error: BaseException) -> str:
    """What *error* says, on one line, without the traceback that dlt quotes."""
    return " ".join(str(error).partition("Traceback (most recent")[0].split()) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
