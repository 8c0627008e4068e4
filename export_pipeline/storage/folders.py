"""Local folders and files, and who may look into them."""

import os
import re
import stat
from contextlib import suppress

from export_pipeline.printable import printable

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Modes of what nobody but its owner may read."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(folder: str, mode: int) -> None:
    """Make *folder*, and those above it that are missing, each of them with *mode*.

    Raises:
        OSError: it cannot be made.
    """
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        # os.makedirs gives its mode to the last folder only.
        with suppress(FileExistsError):
            os.mkdir(path, mode)


def make_private_file(path: str) -> None:
    """Make an empty file at *path*, and its folder, for their owner only; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    make_folder(os.path.dirname(path), PRIVATE_FOLDER)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE))


def told_if_open(path: str) -> str:
    """A remark where *path* was made by somebody else so that others may read it; empty where they may not."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return ""
    folder = os.path.dirname(path)
    # Who may not enter the folder cannot reach what is in it.
    if not mode & _OTHERS or not stat.S_IMODE(os.stat(folder).st_mode) & _OTHERS:
        return ""
    private = PRIVATE_FOLDER if os.path.isdir(path) else PRIVATE_FILE
    return f"; others on this machine may look into it: chmod {private:o} {path}"


_MAX_CHARACTERS = 500
# A query may hold a signature (presigned URLs, Azure's SAS tokens); userinfo a password.
_QUERY = re.compile(r"(https?://[^\s?\"'<>)]*)\?[^\s\"'<>)]*")
_USERINFO = re.compile(r"(https?://)[^/\s@\"']+@")
_SECRET_ELEMENTS = re.compile(
    r"<(AWSAccessKeyId|SignatureProvided|StringToSign\w*|CanonicalRequest\w*|X-Amz-Security-Token)>.*?</\1>", re.DOTALL
)


def brief(error: BaseException) -> str:
    """The message of an error of obstore, botocore or the operating system, on one line of at most 500 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # obstore appends the whole tree of Rust structs; its first part says it all.
    text = str(error).partition("\n\nDebug source:")[0]
    text = _SECRET_ELEMENTS.sub(r"<\1>…</\1>", text)
    text = _USERINFO.sub(r"\1", _QUERY.sub(r"\1?…", text))
    text = printable(" ".join(text.split())) or type(error).__name__
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
