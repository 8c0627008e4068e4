"""Create Dagster's database next to the ledger's if it does not exist yet."""

import os

from sqlalchemy import create_engine, make_url, text


def main() -> None:
    """Look for the database of DAGSTER_POSTGRES_URL on the server of LEDGER_URL."""
    wanted = make_url(os.environ["DAGSTER_POSTGRES_URL"]).database or ""
    server = make_url(os.environ["LEDGER_URL"]).set(drivername="postgresql+psycopg2")
    with create_engine(server, isolation_level="AUTOCOMMIT").connect() as connection:
        known = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": wanted}).first()
        if known is None:
            quoted = connection.dialect.identifier_preparer.quote(wanted)
            connection.execute(text(f"CREATE DATABASE {quoted}"))


if __name__ == "__main__":
    main()
