"""A claim that outlives broken connections: the database was restarted, or failed over to another machine."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread

from export_pipeline.ledger.claims import Claims, at_work

_RENEW_SECONDS = 2.0
# A database that does not answer must not keep a run from ending.
_LET_GO_SECONDS = 10.0


@contextmanager
def kept_at_work(claims: Callable[[], Claims], run_id: str) -> Iterator[None]:
    """As :func:`claims.at_work`, but that the claim is taken anew every two seconds, by a thread.

    Args:
        claims: of the ledger; called again where the ledger is out of reach.
    """
    ended = Event()
    holder = Thread(target=_hold, args=(claims, run_id, ended), name="claim of the run", daemon=True)
    holder.start()
    try:
        yield
    finally:
        ended.set()
        holder.join(_LET_GO_SECONDS)


def _hold(claims: Callable[[], Claims], run_id: str, ended: Event) -> None:
    held = ExitStack()
    while not ended.is_set():
        # Whatever goes wrong here is for those to report who read and write. A connection that breaks raises what
        # SQLAlchemy knows, or the driver's own errors, and is no reason to go without a claim from then on.
        with suppress(Exception):
            taken = ExitStack()
            taken.enter_context(at_work(claims(), run_id))
            # Only now, so that there is no moment without a claim.
            before, held = held, taken
            before.close()
        ended.wait(_RENEW_SECONDS)
    with suppress(Exception):
        held.close()
