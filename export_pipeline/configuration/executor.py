"""Settings of the executor, and problems with local places if steps run on several machines."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator
from typing_extensions import Self

from export_pipeline.configuration.document import Place, Problem, found
from export_pipeline.configuration.settings import Section
from export_pipeline.configuration.stores import LEDGER_URL, LedgerSettings, QuarantineSettings, StagingSettings
from export_pipeline.configuration.subscribers import SubscriberEntry
from export_pipeline.configuration.validation import DeploymentDraft
from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.location import parse_location
from export_pipeline.storage.settings import Secret

ExecutorType = Literal["in_process", "multiprocess", "celery", "k8s", "docker"]
_TYPES = get_args(ExecutorType)
_MODULES = {
    "celery": ("dagster_celery", "redis"),
    "k8s": ("dagster_k8s",),
    "docker": ("dagster_docker",),
}


class ExecutorSettings(Section):
    """The executor of export_job and backfill_job."""

    type: ExecutorType = Field(
        default="in_process",
        description="in_process: one step after another, in the run's process. multiprocess: each step in its own "
        "process, several in parallel. celery: each step on a worker connected to a broker. k8s: each step in a "
        "Kubernetes Job. docker: each step in a container. Text instead of the mapping is the type.",
    )
    max_concurrent: int | None = Field(
        default=None,
        ge=1,
        description="multiprocess, k8s and docker: maximum number of steps of one run in parallel. By default the "
        "number of cores with multiprocess, and no limit with the others; with celery it is the number of workers.",
    )
    broker: Secret | None = Field(
        default=None,
        repr=False,
        description="celery: the broker's URL, as {env: NAME}: redis://:password@host:6379/0, "
        "amqp://user:password@host//.",
    )
    backend: Secret | None = Field(
        default=None,
        repr=False,
        description="celery: URL of the result backend, as {env: NAME}. By default the broker if that is Redis, "
        "otherwise rpc://: results return to the run's process through the broker.",
    )
    redeliver_after_seconds: int | None = Field(
        default=None,
        ge=1,
        description="celery with Redis: time after which an unfinished step is redelivered to another worker, in "
        "seconds, in case its worker has died. By default ten minutes more than max_run_seconds. If the first worker "
        "is still alive, a lock in the ledger prevents the second one from doing the same work.",
    )
    config: dict[str, Any] = Field(
        default={},
        description="Further options of Dagster's executor of this type, with the names in its documentation: "
        "step_k8s_config, job_namespace, image, networks, env_vars, container_kwargs, config_source, …",
    )
    shared_folders: list[str] = Field(
        default=[],
        description="celery, k8s and docker: folders that are mounted at the same path on every machine (NFS, EFS, a "
        "volume). Source, staging, quarantine and files can be below them; all other local folders are an error.",
    )

    @property
    def is_distributed(self) -> bool:
        """Whether steps run on machines that cannot see a local folder of this one."""
        return self.type in _MODULES

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        if self.type == "celery" and self.broker is None:
            raise ValueError("executor celery requires broker, as {env: NAME}: redis://host:6379/0")
        for option in ("broker", "backend", "redeliver_after_seconds"):
            if self.type != "celery" and getattr(self, option) is not None:
                raise ValueError(f"{option} is an option of celery, but type is {self.type}")
        if self.type in ("in_process", "celery") and self.max_concurrent is not None:
            raise ValueError(f"max_concurrent is an option of multiprocess, k8s and docker, but type is {self.type}")
        if self.shared_folders and not self.is_distributed:
            raise ValueError(f"shared_folders is an option of celery, k8s and docker, but type is {self.type}")
        for folder in self.shared_folders:
            if not Path(folder).is_absolute():
                raise ValueError(f"shared_folders: found {folder!r}; allowed: absolute paths")
        for module in _MODULES.get(self.type, ()):
            if importlib.util.find_spec(module) is None:
                package = module.replace("_", "-")
                extra = f'pip install "export-pipeline[{self.type}]"'
                raise ValueError(f"executor {self.type} needs {package}, which is not installed: {extra}")
        return self


def parse_executor(value: object) -> object:
    """Expand plain text to the mapping that it abbreviates.

    Raises:
        ValueError: the text is not a type.
    """
    if isinstance(value, str):
        if value not in _TYPES:
            raise ValueError(f"allowed: {', '.join(_TYPES)}, or a mapping with a type and its options")
        # The model reports a type that requires options.
        return {"type": value}
    return value


def spread_problems(draft: DeploymentDraft, subscribers: Mapping[str, SubscriberEntry]) -> Iterator[Problem]:
    """Places that only one machine can access, if steps run on several.

    Args:
        draft: a file without other problems.
    """
    written = parse_executor(draft.value(("executor",)) or "in_process")
    if not isinstance(written, dict):
        return
    settings = ExecutorSettings.model_validate(written)
    if not settings.is_distributed:
        return
    ledger = draft.value(LEDGER_URL) or LedgerSettings().url
    if not str(ledger).startswith("postgres"):
        yield _problem(draft, settings, LEDGER_URL, "SQLite", "postgresql://user:password@host:5432/database")
    places: list[tuple[Place, object]] = [
        (("source", "url"), draft.value(("source", "url"))),
        (("staging", "url"), draft.value(("staging", "url")) or StagingSettings().url),
        (("quarantine", "url"), draft.value(("quarantine", "url")) or QuarantineSettings().url),
    ]
    for entry in subscribers.values():
        above: Place = ("subscribers", entry.name)
        options = {option: draft.value((*above, option)) for option in entry.options}
        places += [((*above, option), url) for option, url in entry.resource_class.folders(options).items()]
    for place, url in places:
        if isinstance(url, str) and _is_of_one_machine(url, settings.shared_folders):
            allowed = "a bucket (s3://…, gs://…, az://…), or a folder under one of executor.shared_folders"
            yield _problem(draft, settings, place, found(url), allowed)


def _problem(draft: DeploymentDraft, settings: ExecutorSettings, place: Place, what: str, allowed: str) -> Problem:
    # If the key is missing, the line is that of its parent, or else of the executor, which exists.
    above = (place[:length] for length in range(len(place), 0, -1))
    shown = next((one for one in above if draft.has(one)), ("executor",))
    problem = draft.problem(
        shown,
        f"found {what}, which other machines cannot access, but executor {settings.type} runs steps on them; "
        f"allowed: {allowed}",
    )
    return Problem(problem.line, place, problem.text)


def _is_of_one_machine(url: str, shared: list[str]) -> bool:
    try:
        location = parse_location(url)
    except ConfigurationError:
        return False  # not a folder in a store, such as a destination's URL
    if location.scheme != "file":
        return False
    folder = Path(location.prefix)
    return not any(folder.is_relative_to(parse_location(one).prefix) for one in shared)
