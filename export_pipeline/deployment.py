"""A deployment: one YAML file, validated as a whole before anything starts."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, InstanceOf, PrivateAttr, ValidationError
from typing_extensions import Self

from export_pipeline.configuration.document import Place, Problem, configuration_error, read_document
from export_pipeline.configuration.environment import read_environment
from export_pipeline.configuration.executor import ExecutorSettings, parse_executor, spread_problems
from export_pipeline.configuration.location import DeploymentFile, chosen
from export_pipeline.configuration.loops import loop_problems
from export_pipeline.configuration.names import Names
from export_pipeline.configuration.places import (
    absolute_entry,
    absolute_ledger,
    absolute_url,
    refuse_second_ledger,
    unplaced,
)
from export_pipeline.configuration.schedule import cron_of, default_lag, default_run_seconds
from export_pipeline.configuration.settings import (
    AlertSettings,
    CheckSettings,
    ExportSettings,
    MetricsSettings,
    alert_places,
)
from export_pipeline.configuration.siblings import sibling_problems
from export_pipeline.configuration.stores import LedgerSettings, QuarantineSettings, StagingSettings
from export_pipeline.configuration.subscribers import SubscriberEntry, read_subscribers
from export_pipeline.configuration.validation import DeploymentDraft, problems_of, secret_places
from export_pipeline.errors import ConfigurationError
from export_pipeline.secrets import EnvRef
from export_pipeline.source.settings import SourceSettings


class Deployment(ExportSettings):
    """The content of a deployment file, with defaults. A secret that is a variable stays an EnvRef."""

    source: SourceSettings = Field(description="Where raw files land.")
    staging: StagingSettings = Field(
        default=StagingSettings(), description="Where a manifest's batches are stored between reading and delivering."
    )
    ledger: LedgerSettings = Field(
        default=LedgerSettings(), description="The database of what has been seen, planned and delivered."
    )
    quarantine: QuarantineSettings = Field(
        default=QuarantineSettings(), description="Where undeliverable data is kept (the dead letter store)."
    )
    executor: Annotated[ExecutorSettings, BeforeValidator(parse_executor)] = Field(
        default=ExecutorSettings(),
        description="How the steps of a run are executed, on one machine or several: see "
        "[More than one machine](deployment.md#more-than-one-machine).",
    )
    subscribers: dict[str, InstanceOf[SubscriberEntry]] = Field(
        default={}, description="Name → destination: its type, where it starts (since), and the options of its type."
    )

    alerts: list[AlertSettings] = Field(
        default=[],
        description="Addresses that the sensor alerts sends failures, recoveries and log lines to: a list of mappings. "
        "See [Alerts](alerts.md).",
    )
    checks: CheckSettings = Field(default=CheckSettings(), description="What check_job checks, and when.")
    metrics: MetricsSettings = Field(
        default=MetricsSettings(),
        description="Where metrics are pushed. For Prometheus nothing is configured here: see [Metrics](metrics.md).",
    )

    _name: str = PrivateAttr(default="")
    _path: Path = PrivateAttr(default=Path())
    _references: Mapping[Place, EnvRef] = PrivateAttr(default_factory=dict)
    _secrets: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def name(self) -> str:
        """The file's name without ``.yaml``."""
        return self._name

    @property
    def path(self) -> Path:
        """The file, as found."""
        return self._path

    @property
    def cron(self) -> str:
        """``frequency`` as a cron expression."""
        return cron_of(self.frequency)

    @property
    def names(self) -> Names:
        """The names of its jobs, ops, resources and assets."""
        return Names(self.prefix)

    def with_prefix(self, prefix: str) -> Self:
        """The same deployment with another prefix.

        Raises:
            ConfigurationError: the prefix is invalid.
        """
        return self.model_copy(update={"prefix": Names(prefix).prefix})

    @property
    def unusable(self) -> dict[str, str]:
        """Subscribers that cannot be initialized → why."""
        return {name: entry.unusable for name, entry in self.subscribers.items() if entry.unusable}

    @property
    def run_seconds(self) -> float:
        """Time budget of a run: ``max_run_seconds``, otherwise the time between two ticks."""
        return self.max_run_seconds or default_run_seconds(self.cron, self.timezone)

    def allowed_lag(self, now: datetime) -> timedelta:
        """Maximum age of an undelivered file: ``max_lag_minutes``, otherwise derived from the schedule."""
        if self.max_lag_minutes is not None:
            return timedelta(minutes=self.max_lag_minutes)
        return default_lag(self.cron, self.timezone, now)

    @property
    def references(self) -> Mapping[Place, EnvRef]:
        """Places of variables in the file: ``("subscribers", "crm", "secret")`` → EnvRef."""
        return self._references

    def secret_values(self) -> frozenset[str]:
        """Values of all variables in the file, and all secrets written in it, to remove them from texts."""
        return self._secrets


def load_deployment(
    name_or_path: str | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    root: Path | None = None,
    without_variables: bool = False,
) -> Deployment:
    """Read and validate a deployment file.

    Args:
        name_or_path: a name under ``deployments/``, or a path; None: EXPORT_DEPLOYMENT of *environ*, otherwise that
            of the working folder, as :func:`export_pipeline.configuration.location.chosen` finds it.
        environ: the variables for ``{env: NAME}``.
        without_variables: load it even if a variable of a subscriber or an alert is not set or has an invalid value:
            the subscriber is then marked unusable, with the reason.
        root: the folder that relative paths start at; by default that of ``deployments/``, otherwise the file's own.

    Raises:
        ConfigurationError: there is no such file, or it is invalid: all problems, one per line, each with file, line
            and the path in the file, what was found and what is allowed. The message contains no secret.
    """
    location = chosen(name_or_path, environ)
    try:
        data = location.path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{location.shown}: cannot be read: {error.strerror}") from error
    document = read_document(data)
    if not document.tree:
        raise configuration_error(location.shown, document.problems)
    environment = read_environment(document, environ)
    draft = DeploymentDraft(document, environment, frozenset(secret_places(Deployment) | alert_places(document.tree)))
    subscribers, wrong = read_subscribers(draft, without_variables=without_variables)
    spared = {("subscribers", name) for name in subscribers} if without_variables else set()
    problems = [*document.problems, *(one for one in environment.problems if one.place[:2] not in spared)]
    if without_variables:
        problems = [one for one in problems if one.place[:1] != ("alerts",) or one not in environment.problems]
    problems += wrong
    problems += _wrong_with_values(draft)
    if not problems:
        problems += spread_problems(draft, subscribers)
    root = root or location.root
    if not problems:
        problems += unplaced(subscribers, draft, root)
        problems += loop_problems(draft, subscribers, root)
        problems += sibling_problems(location, draft, root)
    if problems:
        raise configuration_error(location.shown, problems)
    return _assembled(location, draft, subscribers, root)


def _wrong_with_values(draft: DeploymentDraft) -> list[Problem]:
    """The problems outside ``subscribers``."""
    try:
        Deployment.model_validate({**draft.environment.tree, "subscribers": {}})
    except ValidationError as error:
        return problems_of(error, draft, Deployment)
    return []


def placed(deployment: Deployment, root: Path) -> Deployment:
    """The same deployment, with the relative paths of its places resolved from *root*.

    Raises:
        ConfigurationError: the working folder has a ledger of this source, and *root* has none.
    """
    refuse_second_ledger(deployment.ledger.url, deployment.source.url, root)
    sections: dict[str, SourceSettings | StagingSettings | QuarantineSettings | LedgerSettings] = {}
    for name in ("source", "staging", "quarantine"):
        section = getattr(deployment, name)
        sections[name] = section.model_copy(update={"url": absolute_url(section.url, root)})
    ledger = absolute_ledger(deployment.ledger.url, root)
    sections["ledger"] = deployment.ledger.model_copy(update={"url": ledger})
    return deployment.model_copy(update=sections)


def _assembled(
    location: DeploymentFile, draft: DeploymentDraft, subscribers: dict[str, SubscriberEntry], root: Path
) -> Deployment:
    """Build the deployment from a valid draft."""
    values = draft.with_references_at(draft.secret_places)
    subscribers = {name: absolute_entry(entry, root) for name, entry in subscribers.items()}
    deployment = placed(Deployment.model_validate({**values, "subscribers": subscribers}), root)
    places = {
        place
        for entry in subscribers.values()
        for place in secret_places(entry.resource_class, ("subscribers", entry.name))
    }
    deployment._name = location.name
    deployment._path = location.path
    deployment._references = dict(draft.environment.references)
    deployment._secrets = frozenset(draft.environment.values | draft.with_secrets(places).literal_secrets())
    return deployment
