"""The command ``export-pipeline``. docs/command_line.md describes it."""

import io
import sys
from typing import TextIO


def main() -> None:
    """Run the command line; never returns: ends the process with the exit code."""
    # Imported here, so that importing one part of this package does not load the others.
    from export_pipeline.cli.app import app

    sys.stdout = _writing_all(sys.stdout)
    app(prog_name="export-pipeline")


def _writing_all(stream: TextIO) -> TextIO:
    """*stream*, or another one on the same file that writes everything it is given.

    With PYTHONUNBUFFERED, which many container images set, standard output makes one write call for each text, and
    silently drops what a full pipe did not accept.
    """
    if not isinstance(stream.buffer, io.FileIO):
        return stream
    return open(stream.fileno(), "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False)
