"""Programs that tests need, and free ports for them."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest


def python_path() -> str:
    """The PYTHONPATH with which a process that starts in another folder finds the tests."""
    return os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])


def program(name: str, how_to_get: str) -> str:
    """The path of a program on PATH or beside this Python."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or missing(name, how_to_get)


def missing(name: str, how_to_get: str) -> NoReturn:
    """Skip the test on a developer's machine, and fail it in CI, where everything is expected to run."""
    message = f"this test needs the program {name}: {how_to_get}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> Callable[[], bool]:
    """A check whether something listens on *port*."""

    def check() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return check


def wait_for(check: Callable[[], bool], *, processes: list["subprocess.Popen[bytes]"], log: Path) -> None:
    """Wait up to a minute until *check* holds; fail at once when one of *processes* ends."""
    deadline = time.monotonic() + 60
    while not check():
        ended = [process for process in processes if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise AssertionError(f"{processes[-1].args!r} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def stop(processes: list["subprocess.Popen[bytes]"]) -> None:
    """End *processes*, the last one first."""
    for process in reversed(processes):
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
