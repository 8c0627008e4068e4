"""Whatever goes wrong while a file is read becomes an error of that file, so that its key is known and others go on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from export_pipeline.errors import AccountingError, ExportError, FileError, FileFailed, FileUnreachable
from export_pipeline.storage.folders import brief

# The machine lacks something, and other files would fail as well: no proof against this one.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@contextmanager
def blaming(key: str) -> Iterator[None]:
    """Inside the block the file under *key* is read: any error of that becomes a :class:`FileError`.

    Other errors that this package raises on purpose stay as they are: they say themselves what is wrong. Not so what
    does not add up for this one file.

    Raises:
        FileError: see above.
    """
    try:
        yield
    except FileError:
        raise
    except ExportError as error:
        if not isinstance(error, AccountingError):
            raise
        raise FileFailed(key, f"what was read does not add up, a defect of this program: {error}") from error
    except Exception as error:
        raise _of_file(key, error) from error
    except BaseException as error:
        # A panic in a library written in Rust; it is no Exception, and nobody asks the process to end by it.
        if type(error).__name__ != "PanicException":
            raise
        raise _of_file(key, error) from error


def _of_file(key: str, error: BaseException) -> FileError:
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return FileUnreachable(key, f"this machine could not read it: {brief(error)}")
    name, said = type(error).__name__, brief(error)
    return FileFailed(key, f"reading it failed with {name}" + (f": {said}" if said != name else ""))
