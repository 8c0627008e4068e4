"""The resources of the pipeline: source, ledger, staging, quarantine, as shown on the UI's Resources page.

Each opens its connection on first use and closes it when the run, or with other executors the step, has ended.
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
    """The object store where raw files land."""

    layout: str = Field(description="How a key encodes its date: a strftime pattern.")
    start_date: str = Field(description="First day to export, YYYY-MM-DD; older files are ignored.")
    on_overwrite: Literal["read", "changed", "ignore"] = Field(
        default="read",
        description="A known key with new content: read it as a separate file, deliver its new lines, or ignore it.",
    )
    ignore: list[str] | None = Field(
        default=None, description="Glob patterns of names to ignore, instead of the built-in ones."
    )
    queue_url: str | None = Field(
        default=None,
        description="The SQS queue with S3's notifications of new files. By default the source is only listed.",
    )
    queue_endpoint_url: str | None = Field(default=None, description="URL of a custom SQS endpoint.")
    queue_bucket: str | None = Field(default=None, description="The bucket's name in messages, if it differs from url.")
    visibility_seconds: int = Field(default=120, description="Visibility timeout of a received message, in seconds.")
    listing_every_seconds: int = Field(default=86_400, description="Time between two listings, in seconds.")
    _source: Source | None = PrivateAttr(default=None)
    _queue: NotificationQueue | None = PrivateAttr(default=None)

    def open(self) -> Source:
        """The source; no request is made yet."""
        if self._source is None:
            self._source = open_source(self._settings())
        return self._source

    def open_queue(self) -> NotificationQueue | None:
        """The notification queue; None if there is none. No request is made yet."""
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
        """The parsed layout."""
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
        """Store the run's id, if there is a run."""
        self._run_id = context.run.run_id if context.run else None

    def open(self) -> Ledger:
        """The ledger; its schema is created or migrated when it is first opened.

        From then on this process holds a lock for the run, which ends with the process at the latest.
        """
        if self._ledger is None:
            ledger = self._ledger = Ledger(self.url)
            if self._run_id is not None:
                # A file lock is permanent; a database connection can break, and its lock is then taken again.
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
    """Where a manifest's batches are stored between reading and delivering."""

    _staging: Staging | None = PrivateAttr(default=None)

    def open(self) -> Staging:
        """The staging area."""
        if self._staging is None:
            self._staging = Staging(open_objects(self.url, self.store_settings(), private=True))
        return self._staging

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Wait for pending writes."""
        if self._staging is not None:
            self._staging.close()


class QuarantineResource(StoreResource):
    """Where undeliverable data is kept, with the reason, until it is retried."""

    _quarantine: Quarantine | None = PrivateAttr(default=None)

    def open(self) -> Quarantine:
        """The quarantine."""
        if self._quarantine is None:
            self._quarantine = Quarantine(open_objects(self.url, self.store_settings(), private=True))
        return self._quarantine


SOURCE, LEDGER, STAGING, QUARANTINE = "source", "ledger", "staging", "quarantine"
ALL = (SOURCE, LEDGER, STAGING, QUARANTINE)


def place_keys(names: Names, wanted: Iterable[str] = ALL) -> set[str]:
    """The resource keys that an op must require to use these places."""
    return {names.prefixed(name) for name in wanted}


class Places:
    """The four places of one export, from ``context.resources``; only those that the op requires exist.

    A resource's name depends on the export's prefix, so an op cannot request it by a parameter's name and type.
    """

    def __init__(self, resources: Any, names: Names) -> None:
        self._resources = resources
        self._names = names

    @property
    def source(self) -> SourceResource:
        """The source."""
        return self._get(SOURCE)  # type: ignore[no-any-return]

    @property
    def ledger(self) -> LedgerResource:
        """The database of what has been seen, planned and delivered."""
        return self._get(LEDGER)  # type: ignore[no-any-return]

    @property
    def staging(self) -> StagingResource:
        """Where a manifest's batches are stored between reading and delivering."""
        return self._get(STAGING)  # type: ignore[no-any-return]

    @property
    def quarantine(self) -> QuarantineResource:
        """Where undeliverable data is kept."""
        return self._get(QUARANTINE)  # type: ignore[no-any-return]

    def _get(self, name: str) -> Any:
        return getattr(self._resources, self._names.prefixed(name))


def discovery_settings(deployment: Deployment, source: SourceResource) -> DiscoverySettings:
    """How files are found and grouped; *source*, as configured for the run, overrides the deployment file."""
    return replace(
        settings_of(deployment),
        layout=source.parsed_layout(),
        start_date=date.fromisoformat(source.start_date),
        on_overwrite=source.on_overwrite,
    )
