"""Taking items ahead changes when they are made, and nothing else."""

import threading
from collections.abc import Iterator

import pytest

from export_pipeline.batching.reading import ahead


def test_gives_the_same_items_in_order() -> None:
    """All items come, in order, whatever the depth."""
    for depth in (1, 2, 100):
        assert list(ahead(iter(range(50)), depth=depth)) == list(range(50))


def test_takes_only_so_many_ahead() -> None:
    """No more than *depth* items exist that were not asked for."""
    made = []

    def items() -> Iterator[int]:
        for n in range(100):
            made.append(n)
            yield n

    taken = ahead(items(), depth=3)
    for n in range(20):
        assert next(taken) == n
        assert len(made) <= n + 1 + 3
    taken.close()


def test_an_error_comes_at_its_turn() -> None:
    """What was made before the error comes first, then the error itself, then nothing."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("disk")

    taken = ahead(items(), depth=4)
    assert [next(taken), next(taken)] == [1, 2]
    with pytest.raises(OSError, match="disk"):
        next(taken)
    assert list(taken) == []


def test_leaves_no_thread() -> None:
    """When it ends, is closed, or raises, its thread has ended."""
    before = threading.active_count()
    taken = ahead(iter(range(1000)), depth=4)
    next(taken)
    assert threading.active_count() == before + 1
    taken.close()
    assert threading.active_count() == before
    assert list(ahead(iter(range(3)), depth=1)) == [0, 1, 2]
    assert threading.active_count() == before
