"""Folders for the work in progress of a process, deleted even if the process was killed before it could do so."""

import os
import shutil
import socket
import tempfile
from pathlib import Path


def new_working_folder(kind: str) -> str:
    """Create a temporary folder; deletes those of *kind* whose process no longer exists first.

    They contain copies of events, which nobody would look for there.
    """
    prefix = f"export-pipeline-{kind}-{socket.gethostname()}-"
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        process_id = folder.name.removeprefix(prefix).partition("-")[0]
        if process_id.isdecimal() and not _is_running(int(process_id)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-")


def _is_running(process_id: int) -> bool:
    """Whether a process with this id is running, of any user."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
