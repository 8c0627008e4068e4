"""Local folders and files, and who may look into them."""

import os
import stat
from contextlib import suppress

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
