"""The places and subscribers of a deployment, opened without Dagster: for the command line, scripts and tests."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from export_pipeline.batching.objects import open_objects
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.staging import Staging
from export_pipeline.deployment import Deployment
from export_pipeline.ledger.database import Ledger
from export_pipeline.secrets import EnvRef, resolve
from export_pipeline.source.limits import ReadLimits
from export_pipeline.source.store import open_source
from export_pipeline.steps.workspace import Workspace

if TYPE_CHECKING:
    from export_pipeline.configuration.subscribers import SubscriberEntry
    from export_pipeline.subscribers.base import Subscriber


@contextmanager
def open_workspace(deployment: Deployment) -> Iterator[Workspace]:
    """Everything that reading and delivering works with; closed when the block ends.

    Nothing is asked of source, staging and quarantine yet. The ledger is made or migrated where it has to be.

    Raises:
        ConfigurationError: a URL is wrong, or a variable is no longer set.
        LedgerError: the ledger was written by a newer version.
    """
    with ExitStack() as stack:
        source = open_source(deployment.source)
        stack.callback(source.close)
        ledger = Ledger(resolve(deployment.ledger.url) or "")
        stack.callback(ledger.close)
        staging = Staging(open_objects(deployment.staging.url, deployment.staging, private=True))
        stack.callback(staging.close)
        yield Workspace(
            source=source,
            ledger=ledger,
            staging=staging,
            quarantine=Quarantine(open_objects(deployment.quarantine.url, deployment.quarantine, private=True)),
            limits=ReadLimits(**deployment.limits.model_dump()),
            max_attempts=deployment.max_attempts,
            secrets=deployment.secret_values(),
        )


@contextmanager
def open_subscriber(entry: "SubscriberEntry") -> "Iterator[Subscriber]":
    """The subscriber that an entry of the deployment file describes, its secrets resolved; closed at the end.

    Raises:
        ConfigurationError: a variable is no longer set.
    """
    subscriber = entry.resource_class(**{name: _resolved(value) for name, value in entry.options.items()})
    try:
        yield subscriber
    finally:
        subscriber.close()


def _resolved(value: Any) -> Any:
    if isinstance(value, EnvRef):
        return value.resolve()
    if isinstance(value, Mapping):
        return {key: _resolved(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(inner) for inner in value]
    return value
