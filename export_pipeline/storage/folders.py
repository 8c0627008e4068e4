"""Local folders and files, and who may access them."""

import os
import re
import stat
from contextlib import suppress

from export_pipeline.printable import printable

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Modes of folders and files that only their owner may read."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAX_CHARACTERS = 500
# A query may contain a signature (presigned URLs, Azure's SAS tokens); userinfo a password.
_QUERY = re.compile(r"(https?://[^\s?\"'<>)]*)\?[^\s\"'<>)]*")
_USERINFO = re.compile(r"(https?://)[^/\s@\"']+@")
_SECRET_ELEMENTS = re.compile(
    r"<(AWSAccessKeyId|SignatureProvided|StringToSign\w*|CanonicalRequest\w*|X-Amz-Security-Token)>.*?</\1>", re.DOTALL
)


def make_folder(folder: str, mode: int) -> None:
    """Create *folder* and its missing parents, each with *mode*.

    Raises:
        OSError: it cannot be created.
    """
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        # os.makedirs applies its mode to the last folder only.
        with suppress(FileExistsError):
            os.mkdir(path, mode)


def make_private_file(path: str) -> None:
    """Create an empty file at *path*, and its folder, accessible only to the owner; an existing file stays as it is.

    An existing file is not even opened: closing it would release every lock that this process holds on it
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).

    Raises:
        OSError: it cannot be created.
    """
    path = os.path.realpath(path)
    make_folder(os.path.dirname(path), PRIVATE_FOLDER)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE))


def told_if_open(path: str) -> str:
    """A warning if other users may read *path*, which this package did not create; otherwise empty."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return ""
    folder = os.path.dirname(path)
    # Without permission to enter the folder, its content is out of reach.
    if not mode & _OTHERS or not stat.S_IMODE(os.stat(folder).st_mode) & _OTHERS:
        return ""
    private = PRIVATE_FOLDER if os.path.isdir(path) else PRIVATE_FILE
    return f"; other users of this machine can read it: chmod {private:o} {path}"


def brief(error: BaseException) -> str:
    """The message of an error of obstore, botocore or the operating system, on one line of at most 500 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # obstore appends the whole tree of Rust structs; the first part is sufficient.
    text = str(error).partition("\n\nDebug source:")[0]
    text = _SECRET_ELEMENTS.sub(r"<\1>…</\1>", text)
    text = _USERINFO.sub(r"\1", _QUERY.sub(r"\1?…", text))
    text = printable(" ".join(text.split())) or type(error).__name__
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
