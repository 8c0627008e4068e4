"""A guard over all tests: the package never opens the file of a SQLite database that this process is connected to.

When a process closes a file, POSIX releases all locks that it holds on it, those of SQLite's connections included; then
another process that believes itself alone deletes the log of the database, with what is in it
(https://www.sqlite.org/howtocorrupt.html, section 2.2). No test of one process would notice, so the open itself fails.
"""

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import export_pipeline
import export_pipeline_tests

_PACKAGE = str(Path(export_pipeline.__file__).parent) + os.sep
_TESTS = str(Path(export_pipeline_tests.__file__).parent) + os.sep
_connected: set[str] = set()


def watch() -> None:
    """From now on, for as long as this process lives: an audit hook cannot be removed."""
    sys.addaudithook(_on_audit)


def _on_audit(name: str, arguments: tuple[Any, ...]) -> None:
    if name == "sqlite3.connect":
        database = arguments[0]
        if isinstance(database, str | os.PathLike) and not str(database).startswith((":", "file:")):
            _connected.add(os.path.abspath(database))
    # With O_EXCL nothing is opened that is there.
    elif name == "open" and arguments[0] in _connected and not arguments[2] & os.O_EXCL and _is_by_the_package():
        raise AssertionError(f"the package opens {arguments[0]}, which SQLite has open: that releases its locks")


def _is_by_the_package() -> bool:
    """Whether the package opens it, and not a test that the package has called."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith((_PACKAGE, _TESTS)):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_PACKAGE)
