"""The ledger's schema and its versions: made on first use, migrated on start, never downgraded by accident."""

from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect, text

from export_pipeline.errors import LedgerError, LedgerMissing
from export_pipeline.ledger.claims import Claims

if TYPE_CHECKING:
    from alembic.config import Config

# The newest migration under migrations/versions. A test holds this against Alembic's own idea of head: knowing it here
# spares every run the import of Alembic.
HEAD = "0007"
_MIGRATION_WAIT_SECONDS = 300


def ensure_schema(engine: Engine, claims: Claims) -> None:
    """Bring the database to :data:`HEAD`.

    Raises:
        LedgerError: the ledger was written by a newer version of export_pipeline.
    """
    if schema_version(engine) == HEAD:
        return
    with claims.claim("schema", wait_seconds=_MIGRATION_WAIT_SECONDS) as mine:
        if not mine:
            raise LedgerError(f"another process has been migrating the ledger for {_MIGRATION_WAIT_SECONDS} s")
        found = schema_version(engine)
        if found != HEAD:
            _migrate(engine, found)


def require_schema(engine: Engine, description: str) -> None:
    """See that the database stands at :data:`HEAD`, and change nothing.

    Raises:
        LedgerMissing: it holds no ledger.
        LedgerError: it holds one of another version.
    """
    found = schema_version(engine)
    if found is None:
        raise LedgerMissing(f"there is no ledger in {description}; the first run makes it")
    if found != HEAD:
        raise LedgerError(
            f"the ledger in {description} is at schema {found}, this version of export_pipeline reads {HEAD}; its next "
            "run, or `export-pipeline check`, migrates an older one, a newer one needs the version that wrote it"
        )


def schema_version(engine: Engine) -> str | None:
    """The migration that the database stands at; None where it has no ledger yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def alembic_config() -> "Config":
    """Alembic, pointed at the migrations inside this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "export_pipeline.ledger:migrations")
    return config


def _migrate(engine: Engine, found: str | None) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise LedgerError(
            f"the ledger is at schema {found}, which this version of export_pipeline does not know "
            f"(its newest is {HEAD}); use the version that wrote it, or a newer one"
        )
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
