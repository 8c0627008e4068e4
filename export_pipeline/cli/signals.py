"""Whether a signal asked this process to end, whatever handled it.

While Dagster runs a job, it handles SIGINT and SIGTERM itself, and forgets a signal that comes while it
records the end of a step or of the run.
"""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
_MOST_BYTES = 4_096


@contextmanager
def endings_noted() -> Iterator[Callable[[], bool]]:
    """Inside the block, a function that tells whether SIGINT or SIGTERM came since the block was entered.

    Outside the main thread, where Python handles no signals, it always says no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: set[int] = set()
    # Python writes the number of each signal to this descriptor, before any handler is called.
    numbers, written = socket.socketpair()
    numbers.setblocking(False)
    written.setblocking(False)
    before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)

    def is_to_end() -> bool:
        with suppress(BlockingIOError):  # no signal since the last time
            came.update(numbers.recv(_MOST_BYTES))
        return bool(came & _ENDING)

    try:
        yield is_to_end
    finally:
        signal.set_wakeup_fd(before)
        numbers.close()
        written.close()
