"""Turns any error raised while a file is read into an error of that file: its key is known, and other files go on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from export_pipeline.errors import AccountingError, ExportError, FileError, FileFailed, FileUnreachable
from export_pipeline.storage.folders import brief

# The machine ran out of something, and other files would fail too: this proves nothing about the file.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@contextmanager
def blaming(key: str) -> Iterator[None]:
    """Inside the block, the file under *key* is read: any error it causes becomes a :class:`FileError`.

    Other errors that this package raises on purpose pass unchanged, since their text already says what is wrong. The
    exception is an :class:`AccountingError`, which here concerns this one file.

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
        raise FileFailed(key, f"the counts of what was read do not match, a bug in this program: {error}") from error
    except Exception as error:
        raise _of_file(key, error) from error
    except BaseException as error:
        # A panic in a library written in Rust: not an Exception, and not a request to end the process.
        if type(error).__name__ != "PanicException":
            raise
        raise _of_file(key, error) from error


def _of_file(key: str, error: BaseException) -> FileError:
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return FileUnreachable(key, f"this machine could not read it: {brief(error)}")
    name, said = type(error).__name__, brief(error)
    return FileFailed(key, f"reading it failed with {name}" + (f": {said}" if said != name else ""))
