"""A queue in memory that follows SQS's rules as far as they matter, and gives no guarantee that SQS does not.

Messages come in any order, twice or more, and again where they were taken and not removed. What the real one is like
over the wire stands in ``source/test_queue.py``.
"""

import random
from collections.abc import Sequence

from export_pipeline.source.queue import Message


class MemoryQueue:
    """A queue.

    Attributes:
        bodies: what is in it, by message id, whether taken or not.
        taken: ids of messages that are not handed out until :meth:`come_again`.
        dead_letters: what it says of a dead-letter queue.
        requests: how many messages were asked for, each time.
    """

    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/memory"

    def __init__(self, *, dead_letters: bool | None = False, seed: int | None = None) -> None:
        self.bodies: dict[str, str] = {}
        self.taken: set[str] = set()
        self.dead_letters = dead_letters
        self.requests: list[int] = []
        self._random = random.Random(seed) if seed is not None else None
        self._sent = 0

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self._sent += 1
            self.bodies[f"message-{self._sent}"] = body

    def receive(self, most: int) -> tuple[list[Message], bool]:
        self.requests.append(most)
        waiting = [one for one in self.bodies if one not in self.taken]
        if self._random:
            self._random.shuffle(waiting)
        chosen = waiting[:most]
        self.taken.update(chosen)
        messages = [Message(one, f"handle of {one}", self.bodies[one]) for one in chosen]
        return messages, len(waiting) < most

    def delete(self, messages: Sequence[Message]) -> int:
        for message in messages:
            self.bodies.pop(message.id, None)
        return 0

    def waiting(self) -> int:
        return len(self.bodies.keys() - self.taken)

    def has_dead_letters(self) -> bool | None:
        return self.dead_letters

    def come_again(self) -> None:
        """Let the time pass for which taken messages are kept from others."""
        self.taken.clear()
