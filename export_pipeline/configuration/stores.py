"""Settings of staging, ledger and quarantine, where the pipeline itself stores data."""

import re
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator

from export_pipeline.configuration.document import Place
from export_pipeline.configuration.settings import Section
from export_pipeline.errors import ConfigurationError
from export_pipeline.secrets import EnvRef
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.settings import Secret, StoreSettings

LEDGER_URL: Place = ("ledger", "url")
_DATABASES = ("sqlite:///", "postgresql://", "postgresql+psycopg2://", "postgres://")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//)?")


class FolderSettings(StoreSettings):
    """A folder used by the pipeline itself, local or in an object store."""

    url: str

    @field_validator("url")
    @classmethod
    def _url_is_known(cls, url: str) -> str:
        try:
            parse_location(url)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return url


class StagingSettings(FolderSettings):
    """Where a manifest's batches are stored between reading and delivering."""

    url: str = Field(
        default=".dagster/staging",
        min_length=1,
        description="Folder of staged batches, local or in an object store (as source.url). Every machine that runs "
        "steps needs access to it.",
    )


class QuarantineSettings(FolderSettings):
    """Where undeliverable data is kept."""

    url: str = Field(
        default=".dagster/quarantine",
        min_length=1,
        description="Folder of quarantined events and files, local or in an object store (as source.url).",
    )


class LedgerSettings(Section):
    """The database of what has been seen, planned and delivered."""

    url: Secret = Field(
        default=".dagster/export.db",
        repr=False,
        description="A path for SQLite, or a SQLAlchemy URL: sqlite:///path, "
        "postgresql://user:password@host:5432/database, or {env: NAME}.",
    )

    keep_days: int | None = Field(
        default=None,
        ge=1,
        description="Number of days kept in full. Older days that are delivered are folded to counts and checksums: a "
        "file that is listed again is still known, and a backfill still produces the same batches. By default all "
        "days are kept.",
    )

    @field_validator("url")
    @classmethod
    def _url_is_known(cls, url: str | EnvRef) -> str | EnvRef:
        """Only the form is checked, so that SQLAlchemy need not be imported; opening the ledger checks the rest."""
        if isinstance(url, str) and (not url or (_SCHEME.match(url) and not url.startswith(_DATABASES))):
            raise ValueError(
                "allowed: a path for SQLite, sqlite:///path, or postgresql://user:password@host:5432/database"
            )
        return url


def passwords(url: str) -> set[str]:
    """The password in *url*, as written and percent-decoded; empty if it has none."""
    written = urlsplit(url).password if "://" in url else None
    return {written, unquote(written)} if written else set()
