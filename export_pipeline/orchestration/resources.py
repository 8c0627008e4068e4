"""The pipeline's own resources: source, ledger, staging, quarantine. Seen and edited on the UI's Resources page.

Each opens what it describes on first use and closes it when the run, or with other executors the step, has ended.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from typing import Any, Literal

from dagster import InitResourceContext
from pydantic import Field, PrivateAttr

from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.configuration.names import Names
from export_pipeline.deployment import Deployment
from export_pipeline.ledger.claims import at_work, kept_at_work
from export_pipeline.ledger.database import Ledger
from export_pipeline.source.layout import Layout
from export_pipeline.source.queue import NotificationQueue
from export_pipeline.source.settings import NotificationSettings, SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline.steps.discover import DiscoverySettings
from export_pipeline.steps.open import discovery_settings as settings_of
from export_pipeline.storage.objects import open_objects
from export_pipeline.subscribers.launchable import LaunchableResource
from export_pipeline.subscribers.store_options import StoreFields


class StoreResource(StoreFields, LaunchableResource):
    """A folder in any store. Stores other than S3 take their credentials from the environment."""

    url: str = Field(description="s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a local folder.")


class SourceResource(StoreResource):
    """Where raw files land."""

    layout: str = Field(description="How a key tells its date: a strftime pattern.")
    start_date: str = Field(description="First day that is ever exported, YYYY-MM-DD.")
    on_overwrite: Literal["read", "ignore"] = Field(
        default="read", description="A known key with new content: read it as a file of its own, or ignore it."
    )
    ignore: list[str] | None = Field(
        default=None, description="Glob patterns of names that are left alone, in place of the shipped ones."
    )
    queue_url: str | None = Field(
        default=None, description="The SQS queue in which S3 tells of new files; without one the source is only listed."
    )
    queue_endpoint_url: str | None = Field(default=None, description="URL of another endpoint of SQS.")
    queue_bucket: str | None = Field(default=None, description="The bucket as messages name it, if url does not.")
    visibility_seconds: int = Field(default=120, description="How long a message that was taken is kept from others.")
    listing_every_seconds: int = Field(default=86_400, description="How often the source is listed beside the queue.")
    _source: Source | None = PrivateAttr(default=None)
    _queue: NotificationQueue | None = PrivateAttr(default=None)

    def open(self) -> Source:
        """The source; nothing is asked of it yet."""
        if self._source is None:
            self._source = open_source(self._settings())
        return self._source

    def open_queue(self) -> NotificationQueue | None:
        """The queue of notifications; None where there is none. Nothing is asked of it yet."""
        if self._queue is None and self.queue_url is not None:
            self._queue = NotificationQueue(self._settings())
        return self._queue

    def _settings(self) -> SourceSettings:
        notifications = None
        if self.queue_url is not None:
            notifications = NotificationSettings(
                queue_url=self.queue_url,
                endpoint_url=self.queue_endpoint_url,
                bucket=self.queue_bucket,
                visibility_seconds=self.visibility_seconds,
                listing_every_seconds=self.listing_every_seconds,
            )
        return SourceSettings(
            url=self.url,
            layout=self.layout,
            start_date=date.fromisoformat(self.start_date),
            on_overwrite=self.on_overwrite,
            ignore=self.ignore,
            notifications=notifications,
            **self.store_settings().model_dump(exclude_unset=True),
        )

    def parsed_layout(self) -> Layout:
        """The layout, ready to read keys."""
        return Layout(self.layout)

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Close the source's connections, and the queue's."""
        if self._source is not None:
            self._source.close()
        if self._queue is not None:
            self._queue.close()


class LedgerResource(LaunchableResource):
    """The database of what has been seen, planned and delivered."""

    url: str = Field(description="A path for SQLite, or a SQLAlchemy URL of SQLite or PostgreSQL.")
    _ledger: Ledger | None = PrivateAttr(default=None)
    _run_id: str | None = PrivateAttr(default=None)
    _claimed: ExitStack = PrivateAttr(default_factory=ExitStack)

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Know the run, if this is for one."""
        self._run_id = context.run.run_id if context.run else None

    def open(self) -> Ledger:
        """The ledger; its schema is made or migrated by the first one who opens it.

        From then on this process is known to work for the run, until it ends in whatever way.
        """
        if self._ledger is None:
            ledger = self._ledger = Ledger(self.url)
            if self._run_id is not None:
                # A lock on a file stays, a connection may break.
                known = at_work(ledger.claims, self._run_id)
                if not ledger.is_sqlite:
                    known = kept_at_work(lambda: ledger.claims, self._run_id)
                self._claimed.enter_context(known)
        return self._ledger

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Close the ledger's connections."""
        self._claimed.close()
        if self._ledger is not None:
            self._ledger.close()


class StagingResource(StoreResource):
    """Where a manifest's batches lie between reading and delivering."""

    _staging: Staging | None = PrivateAttr(default=None)

    def open(self) -> Staging:
        """The staging area."""
        if self._staging is None:
            self._staging = Staging(open_objects(self.url, self.store_settings(), private=True))
        return self._staging

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Wait for what is still being written."""
        if self._staging is not None:
            self._staging.close()


class QuarantineResource(StoreResource):
    """Where what cannot be delivered is kept, with the reason and a way back."""

    _quarantine: Quarantine | None = PrivateAttr(default=None)

    def open(self) -> Quarantine:
        """The quarantine."""
        if self._quarantine is None:
            self._quarantine = Quarantine(open_objects(self.url, self.store_settings(), private=True))
        return self._quarantine


SOURCE, LEDGER, STAGING, QUARANTINE = "source", "ledger", "staging", "quarantine"
ALL = (SOURCE, LEDGER, STAGING, QUARANTINE)


def place_keys(names: Names, wanted: Iterable[str] = ALL) -> set[str]:
    """What an op has to require to find the places it wants."""
    return {names.prefixed(name) for name in wanted}


class Places:
    """The four places of one export, out of ``context.resources``; each is there where it was required.

    A resource's name depends on the export's prefix, so no parameter of an op can ask for it by name and type.
    """

    def __init__(self, resources: Any, names: Names) -> None:
        self._resources = resources
        self._names = names

    @property
    def source(self) -> SourceResource:
        """Where raw files land."""
        return self._get(SOURCE)  # type: ignore[no-any-return]

    @property
    def ledger(self) -> LedgerResource:
        """The database of what has been seen, planned and delivered."""
        return self._get(LEDGER)  # type: ignore[no-any-return]

    @property
    def staging(self) -> StagingResource:
        """Where a manifest's batches lie between reading and delivering."""
        return self._get(STAGING)  # type: ignore[no-any-return]

    @property
    def quarantine(self) -> QuarantineResource:
        """Where what cannot be delivered is kept."""
        return self._get(QUARANTINE)  # type: ignore[no-any-return]

    def _get(self, name: str) -> Any:
        return getattr(self._resources, self._names.prefixed(name))


def discovery_settings(deployment: Deployment, source: SourceResource) -> DiscoverySettings:
    """How files are found and grouped, with what a run's config says of *source* instead of the deployment file."""
    return replace(
        settings_of(deployment),
        layout=source.parsed_layout(),
        start_date=date.fromisoformat(source.start_date),
        on_overwrite=source.on_overwrite,
    )
