"""Signals that ask a process to end are noted, whatever handles them."""

import os
import signal
from threading import Thread

import pytest

from export_pipeline.cli.signals import endings_noted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_somebody_else_has_handled_is_noted(number: signal.Signals) -> None:
    """A handler that forgets the signal, as Dagster's may, does not keep it from being noted; an earlier one is not."""
    forgotten = []
    before = signal.signal(number, lambda *given: forgotten.append(given))
    try:
        with endings_noted() as is_to_end:
            assert not is_to_end()
            os.kill(os.getpid(), number)
            assert is_to_end()
            assert is_to_end()
        with endings_noted() as is_to_end:
            assert not is_to_end()
    finally:
        signal.signal(number, before)
    assert len(forgotten) == 1


def test_other_signals_end_nothing() -> None:
    """A signal that asks for something else is none of these."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with endings_noted() as is_to_end:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not is_to_end()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_beside_the_main_thread_there_are_no_signals() -> None:
    """In another thread, where Python handles none, the block works all the same."""
    said = []

    def ask() -> None:
        with endings_noted() as is_to_end:
            said.append(is_to_end())

    thread = Thread(target=ask)
    thread.start()
    thread.join()
    assert said == [False]
