"""Separate threads."""

import threading

import pytest

from export_pipeline.subscribers.worker import Overdue, Worker


def test_everything_is_done_in_one_thread_one_after_the_other() -> None:
    """Whoever asks, from whatever thread, and also when many ask at the first moment."""
    worker = Worker("alone")
    seen: list[str] = []
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait()
        worker.do(lambda: seen.append(threading.current_thread().name), timeout_seconds=10)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.close()
    assert seen == ["alone"] * 8
    assert "alone" not in [thread.name for thread in threading.enumerate()]


def test_what_is_raised_is_raised_where_it_was_asked() -> None:
    """Also a TimeoutError of the work itself, which is not Overdue."""
    worker = Worker("alone")

    def fails() -> None:
        raise TimeoutError("of the work")

    with pytest.raises(TimeoutError, match="of the work"):
        worker.do(fails, timeout_seconds=10)
    worker.close()


def test_what_was_not_begun_in_time_is_not_begun_any_more() -> None:
    """What hangs is waited for; what waited behind it in vain is dropped; what is asked afterwards is done."""
    worker = Worker("alone")
    gate = threading.Event()
    done: list[str] = []
    with pytest.raises(Overdue):
        worker.do(gate.wait, timeout_seconds=0.05)
    with pytest.raises(Overdue):
        worker.do(lambda: done.append("second"), timeout_seconds=0.05)
    gate.set()
    worker.do(lambda: done.append("third"), timeout_seconds=10)
    worker.close()
    assert done == ["third"]


def test_after_closing_it_may_be_used_again() -> None:
    """A subscriber that was closed may deliver again."""
    worker = Worker("alone")
    assert worker.do(lambda: 1, timeout_seconds=10) == 1
    worker.close()
    assert worker.do(lambda: 2, timeout_seconds=10) == 2
    worker.close()
