"""Taking the next items of an iterator while the last one is being worked on."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], *, depth: int) -> Generator[Item, None, None]:
    """The same items, none of which is None, in the same order, of which a thread takes up to *depth* in advance.

    What *items* raises is raised at its turn. When this generator ends or is closed, the thread has ended, too.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = deque(pool.submit(next, items, None) for _ in range(depth))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
