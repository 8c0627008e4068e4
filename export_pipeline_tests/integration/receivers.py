"""Functions for the ``python`` subscriber that tests in other processes can steer and read back.

Everything goes through the folder that RECEIVED names: ``<name>.calls`` holds a line for each call, and a file
``<name>.fails`` makes every call fail while it is there, for good where it says "blocked".
"""

import json
import os
import time
from pathlib import Path

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked, Refused, TryLater
from export_pipeline.subscribers.base import Subscriber


def folder() -> Path:
    """Where the receivers keep what they get, and find the files that steer them."""
    return Path(os.environ["RECEIVED"])


def crm(ndjson: str, batch: Batch) -> None:
    """A subscriber that keeps each batch, and fails while the file crm.fails is there."""
    _receive("crm", ndjson, batch)


def dwh(ndjson: str, batch: Batch) -> None:
    """As :func:`crm`, with files of its own."""
    _receive("dwh", ndjson, batch)


def slow(ndjson: str, batch: Batch) -> None:
    """Takes a while, so that two runs overlap."""
    time.sleep(0.2)
    _receive("crm", ndjson, batch)


def stuck(ndjson: str, batch: Batch) -> None:
    """Reports its process, and blocks until a file ``free`` exists or the process is killed."""
    (folder() / "stuck.pid").write_text(str(os.getpid()))
    while not (folder() / "free").exists():
        time.sleep(0.1)


def stuck_once(ndjson: str, batch: Batch) -> None:
    """As ``stuck``, and takes the batch in the end."""
    stuck(ndjson, batch)
    _receive("crm", ndjson, batch)


def stuck_in_first(ndjson: str, batch: Batch) -> None:
    """Its first call never returns, whoever makes it; all others succeed."""
    pid = folder() / "stuck.pid"
    unfinished = pid.with_suffix(f".{os.getpid()}")
    unfinished.write_text(str(os.getpid()))
    try:
        # One process is the first, also among several.
        os.link(unfinished, pid)
    except FileExistsError:
        _receive("stuck", ndjson, batch)
        return
    while True:
        time.sleep(60)


def blocked(ndjson: str, batch: Batch) -> None:
    """Refuse every batch, since a person has to act."""
    raise Blocked("401: the key has expired")


def picky(ndjson: str, batch: Batch) -> Receipt:
    """Refuses every event that says so, and takes the others."""
    lines = ndjson.split("\n")[:-1]
    refused = {index: "does not like it" for index, line in enumerate(lines) if '"refuse"' in line}
    _receive("picky", "".join(line + "\n" for index, line in enumerate(lines) if index not in refused), batch)
    return Receipt(refused=refused)


def leaking(ndjson: str, batch: Batch) -> None:
    """Puts a secret into the text of its error, as a careless client does."""
    secret = os.environ["PLANTED_SECRET"]
    print("printed by the function, without the secret")
    try:
        raise ConnectionError(f"cannot reach https://user:{secret}@example.com/?key={secret}")
    except ConnectionError as error:
        raise RuntimeError(f"login with {secret} failed") from error


def echoing(ndjson: str, batch: Batch) -> None:
    """Refuses events with an email, and repeats it in the reason."""
    emails = {n: json.loads(line).get("email") for n, line in enumerate(batch.lines())}
    if refused := {n: f"email {email} is not allowed" for n, email in emails.items() if email}:
        raise Refused("some emails are not allowed", events=refused)


class Narrow(Subscriber):
    """Lets one in at a time."""

    def deliver(self, batch: Batch) -> None:
        with self.alone("narrow", wait_seconds=0):
            _receive("narrow", batch.data.decode(), batch)


def calls(name: str, where: Path) -> list[tuple[str, str]]:
    """(batch id, NDJSON) of every call that was accepted, in order."""
    path = where / f"{name}.calls"
    if not path.exists():
        return []
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def events(name: str, where: Path) -> list[bytes]:
    """All events that were accepted, in order, repeats included."""
    return [line.encode() for _, ndjson in calls(name, where) for line in ndjson.split("\n")[:-1]]


def _receive(name: str, ndjson: str, batch: Batch) -> None:
    fails = folder() / f"{name}.fails"
    if fails.exists():
        if fails.read_text() == "blocked":
            raise Blocked("401: the token has expired")
        raise TryLater("503: down for maintenance")
    with (folder() / f"{name}.calls").open("a") as file:
        file.write(json.dumps([batch.id, ndjson]) + "\n")
