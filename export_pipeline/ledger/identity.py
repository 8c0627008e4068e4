"""What tells one ledger from all others, wherever it lies and whatever its deployment is called.

Two deployments may share a folder, a Dagster instance or the names of their jobs, but not the identity of a ledger.
A copy of a ledger (a restored backup, say) has the identity of the original.
"""

from hashlib import sha256

from sqlalchemy import Connection, select

from export_pipeline.ledger import tables as t

_MARK_DIGITS = 8


def read(tx: Connection) -> str:
    """The ledger's identity: 32 hexadecimal digits, drawn at random when the ledger was made."""
    return str(tx.execute(select(t.identity.c.id).where(t.identity.c.n == 1)).scalar_one())


def mark(tx: Connection, url: str) -> str:
    """8 hexadecimal digits that stand for the source at *url* in this ledger, for places that people read."""
    return sha256(f"{read(tx)}\n{url}".encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_DIGITS]
