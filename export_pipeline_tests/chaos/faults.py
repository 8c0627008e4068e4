"""Everything that can go wrong around a run: each fault is a function that sets it up and says what it may repeat."""

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from export_pipeline_tests.chaos.site import HONOURING, Site
from export_pipeline_tests.chaos.worker import COMMANDS
from export_pipeline_tests.servers.http import Reply, ResetWhileAnswering, ResetWhileReading, Server, Silence

_DAY_SECONDS = 86_400.0
_CLOSED_PORT_URL = "http://127.0.0.1:9/"
_BUSY_SECONDS = (0.1, 0.8)


@dataclass
class Weather:
    """One fault, set up for one run.

    Attributes:
        order: what the worker itself is told, as of :class:`worker.Order`.
        may_repeat: how many batches may come again for it at a receiver that knows no ids.
        during: done in a thread of its own while the run works.
        undo: done after the run.
    """

    order: dict[str, Any] = field(default_factory=dict)
    may_repeat: int = 0
    during: Callable[[], None] | None = None
    undo: Callable[[], None] | None = None


Fault = Callable[[Site, random.Random], Weather]


def store(kind: str) -> Fault:
    """S3 answers some of the next requests so."""

    def fault(site: Site, chance: random.Random) -> Weather:
        for _ in range(chance.randint(1, 12)):
            site.store.script += [""] * chance.randint(0, 2) + [kind]
        return Weather(undo=site.store.calm)

    return fault


def hidden_key(site: Site, chance: random.Random) -> Weather:
    """Listings miss a key, which is there when the next run looks."""
    site.store.hiding = chance.randint(1, 2)
    return Weather(undo=site.store.calm)


def receiver(answer: Reply | Silence | ResetWhileReading | ResetWhileAnswering) -> Fault:
    """Both receivers of webhooks answer some requests so."""

    def fault(site: Site, chance: random.Random) -> Weather:
        servers: tuple[Server, ...] = (site.honouring, site.forgetful)
        count = chance.randint(1, 4)
        for server in servers:
            with server.lock:
                server.script += [answer] * count

        def undo() -> None:
            for server in servers:
                with server.lock:
                    server.script.clear()

        return Weather(may_repeat=count if isinstance(answer, ResetWhileAnswering) else 0, undo=undo)

    return fault


def refusing(site: Site, chance: random.Random) -> Weather:
    """Nobody listens at a receiver's port."""
    entry = site.config["subscribers"][HONOURING]
    url, entry["url"] = entry["url"], _CLOSED_PORT_URL

    def undo() -> None:
        entry["url"] = url

    return Weather(undo=undo)


def ledger_locked(site: Site, chance: random.Random) -> Weather:
    """Somebody else holds the ledger's lock for a while, now and then."""

    def during() -> None:
        for _ in range(3):
            time.sleep(chance.uniform(0, 0.2))
            _lock(site.ledger_url, chance.uniform(*_BUSY_SECONDS))

    return Weather(during=during)


def _lock(url: str, seconds: float) -> None:
    if url.startswith("postgresql:"):
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg2:"))
        with engine.begin() as connection:
            if connection.execute(text("SELECT to_regclass('deliveries')")).scalar():
                connection.execute(text("LOCK TABLE deliveries, batches, manifests IN ACCESS EXCLUSIVE MODE"))
            time.sleep(seconds)
        engine.dispose()
        return
    if not Path(url).exists():
        return
    with contextlib.closing(sqlite3.connect(url, timeout=30, isolation_level=None)) as ledger:
        ledger.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        ledger.execute("ROLLBACK")


def database_restarted(site: Site, chance: random.Random) -> Weather:
    """PostgreSQL crashes and comes back: a backend is killed, upon which the server ends all others and recovers."""

    def during() -> None:
        time.sleep(chance.uniform(0.05, 0.8))
        engine = create_engine(site.ledger_url.replace("postgresql:", "postgresql+psycopg2:"))
        # Leaving the block, the connection finds that it is dead: so it was meant.
        with contextlib.suppress(OperationalError), engine.connect() as connection:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            os.kill(int(backend), signal.SIGKILL)
        engine.dispose()

    return Weather(during=during, may_repeat=1)


def disk_full(*, staging: bool) -> Fault:
    """No file may grow beyond a size (RLIMIT_FSIZE); a batch is larger than that, or the ledger is."""

    def fault(site: Site, chance: random.Random) -> Weather:
        if not staging:
            return Weather(order={"largest_file_bytes": chance.randrange(0, 120_000)}, may_repeat=1)
        ledger = Path(site.ledger_url)
        used = max((path.stat().st_size for path in ledger.parent.glob("*") if path.is_file()), default=0)
        limit = used + 300_000
        site.put_files(1, chance, large_bytes=limit + 50_000)
        return Weather(order={"largest_file_bytes": limit}, may_repeat=1)

    return fault


def clock_jumps(site: Site, chance: random.Random) -> Weather:
    """The worker's clock is wrong by minutes, days or a year."""
    shift = chance.choice(
        [-400 * _DAY_SECONDS, -3 * _DAY_SECONDS, -3600.0, 7200.0, 2 * _DAY_SECONDS, 400 * _DAY_SECONDS]
    )
    return Weather(order={"shift_seconds": shift})


def limits_changed(site: Site, chance: random.Random) -> Weather:
    """Other limits than at the try before."""
    site.config["batch"] = {"max_events": chance.randint(1, 9)}
    site.config["manifest"] = {"max_files": chance.randint(1, 6)}
    site.config["max_files"] = chance.randint(3, 30)
    site.config["lookback_hours"] = chance.randint(24, 48)
    return Weather()


def subscribers_changed(site: Site, chance: random.Random) -> Weather:
    """A guest among the subscribers comes, goes, is renamed, or comes back."""
    entries = site.config["subscribers"]
    guests = [name for name in entries if name.startswith("guest")]
    if guests and chance.random() < 0.6:
        old = chance.choice(guests)
        del entries[old]
        if chance.random() < 0.5:
            return Weather()
    name = f"guest_{chance.randint(1, 8)}"
    entries[name] = {**site.webhook(f"{site.honouring.url}/{name}"), "since": "beginning"}
    return Weather()


def asked(command: str) -> Fault:
    """A user requests something right before the run. A replay repeats what the first day has."""

    def fault(site: Site, chance: random.Random) -> Weather:
        had = len({identity for identity, _ in site.forgetful.arrivals})
        return Weather(order={"command": command}, may_repeat=had if command == "replay" else 0)

    return fault


RECEIVER_FAULTS: dict[str, Fault] = {
    "receiver times out": receiver(Silence(1.5)),
    "receiver refuses connections": refusing,
    "receiver answers 503": receiver(Reply(503)),
    "receiver answers 429, Retry-After": receiver(Reply(429, headers={"Retry-After": "1"})),
    "receiver answers 401": receiver(Reply(401)),
    "receiver breaks off while reading": receiver(ResetWhileReading()),
    "receiver takes it, the connection breaks in the answer": receiver(ResetWhileAnswering()),
}
STORE_FAULTS: dict[str, Fault] = {
    **{f"S3 answers {status}": store(status) for status in ("503", "500", "429", "403")},
    "S3 is slow": store("slow"),
    "S3 cuts answers half-way": store("cut"),
    "S3 sends less than the object, and says so": store("short"),
    "S3 sends less than it says": store("long"),
    "a listing misses a key": hidden_key,
}
DEPLOYMENT_FAULTS: dict[str, Fault] = {
    "limits changed between two tries": limits_changed,
    "subscribers added, removed, renamed": subscribers_changed,
    **{f"a person asks for a {command}": asked(command) for command in COMMANDS},
}
COMMON: dict[str, Fault] = {
    **STORE_FAULTS,
    **RECEIVER_FAULTS,
    **DEPLOYMENT_FAULTS,
    "ledger locked by another process": ledger_locked,
    "clock jumps": clock_jumps,
}
SQLITE_ONLY: dict[str, Fault] = {
    "disk full in staging": disk_full(staging=True),
    "disk full for the ledger": disk_full(staging=False),
}
POSTGRES_ONLY: dict[str, Fault] = {"PostgreSQL crashes and restarts": database_restarted}


def faults_of(ledger_url: str) -> dict[str, Fault]:
    """All that can happen to a deployment with this ledger. A full disk is the ledger's folder's with SQLite only."""
    return {**COMMON, **(POSTGRES_ONLY if ledger_url.startswith("postgresql:") else SQLITE_ONLY)}


def run_during(weather: Weather) -> threading.Thread | None:
    """Start what happens while the run works."""
    if weather.during is None:
        return None
    thread = threading.Thread(target=weather.during, daemon=True)
    thread.start()
    return thread
