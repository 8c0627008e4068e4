"""What runs the steps of a run: this process, others of this machine, or others of many machines."""

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
    """What runs the steps of export_job and backfill_job."""

    type: ExecutorType = Field(
        default="in_process",
        description="in_process: one after the other, in the run's process. multiprocess: each in a process of its "
        "own, several at once. celery: each on one of the workers that listen to a broker. k8s: each in a Kubernetes "
        "Job. docker: each in a container. A plain text in the place of the mapping is the type.",
    )
    max_concurrent: int | None = Field(
        default=None,
        ge=1,
        description="multiprocess, k8s and docker: most steps of one run at once. By default as many as there are "
        "cores with multiprocess, and no limit with the others; with celery the number of workers says it.",
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
        description="celery: where results go, as {env: NAME}. By default "
        "the broker where that is Redis, else rpc://: back to the run's process, through the broker.",
    )
    redeliver_after_seconds: int | None = Field(
        default=None,
        ge=1,
        description="celery with Redis: after so many seconds without an end, a step is handed to another worker, "
        "since its own may have died. By default ten minutes more than max_run_seconds. One that is alive after all "
        "does no harm: a claim in the ledger keeps the second from its work.",
    )
    config: dict[str, Any] = Field(
        default={},
        description="What else Dagster's executor of this type takes, by the names of its documentation: "
        "step_k8s_config, job_namespace, image, networks, env_vars, container_kwargs, config_source, …",
    )
    shared_folders: list[str] = Field(
        default=[],
        description="celery, k8s and docker: folders that every machine has mounted under the same path (NFS, EFS, a "
        "volume). Source, staging, quarantine and files may lie under them; all other local folders are refused.",
    )

    @property
    def is_distributed(self) -> bool:
        """Whether steps run where a folder of this machine is not seen."""
        return self.type in _MODULES

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        if self.type == "celery" and self.broker is None:
            raise ValueError("executor celery needs its broker: redis://host:6379/0, as {env: NAME}")
        for option in ("broker", "backend", "redeliver_after_seconds"):
            if self.type != "celery" and getattr(self, option) is not None:
                raise ValueError(f"{option} is an option of the executor celery, and this is {self.type}")
        if self.type in ("in_process", "celery") and self.max_concurrent is not None:
            raise ValueError(f"max_concurrent is an option of multiprocess, k8s and docker, and this is {self.type}")
        if self.shared_folders and not self.is_distributed:
            raise ValueError(f"shared_folders is an option of celery, k8s and docker, and this is {self.type}")
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
    """The mapping that a plain text stands for.

    Raises:
        ValueError: the text is no type.
    """
    if isinstance(value, str):
        if value not in _TYPES:
            raise ValueError(f"allowed: {', '.join(_TYPES)}, or a mapping with a type and its options")
        # A type that needs options says so by itself.
        return {"type": value}
    return value


def spread_problems(draft: DeploymentDraft, subscribers: Mapping[str, SubscriberEntry]) -> Iterator[Problem]:
    """What only one machine can see, where steps run on several.

    Args:
        draft: a file in which all else is right.
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
    # Where the key is missing, the line is that of what it would be under, else that of the executor, which is there.
    above = (place[:length] for length in range(len(place), 0, -1))
    shown = next((one for one in above if draft.has(one)), ("executor",))
    problem = draft.problem(
        shown,
        f"found {what}, which other machines do not see, and executor {settings.type} runs steps on them; "
        f"allowed: {allowed}",
    )
    return Problem(problem.line, place, problem.text)


def _is_of_one_machine(url: str, shared: list[str]) -> bool:
    try:
        location = parse_location(url)
    except ConfigurationError:
        return False  # no folder in any store, such as a destination's own address
    if location.scheme != "file":
        return False
    folder = Path(location.prefix)
    return not any(folder.is_relative_to(parse_location(one).prefix) for one in shared)
