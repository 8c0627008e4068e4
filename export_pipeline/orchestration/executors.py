"""Dagster's executor for ``executor:`` of a deployment file, and the application of Celery's workers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dagster import (
    ExecutorDefinition,
    InitExecutorContext,
    in_process_executor,
    multiple_process_executor_requirements,
    multiprocess_executor,
)

from export_pipeline.configuration.executor import ExecutorSettings

# Not public; a test verifies that it refuses an unknown option.
from export_pipeline.dagster_internals import validate_config
from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger.claims import kept_at_work
from export_pipeline.orchestration.resources import LedgerResource
from export_pipeline.secrets import EnvRef, resolve

if TYPE_CHECKING:
    from celery import Celery
_REDIS = ("redis:", "rediss:", "sentinel:")
# After the time budget of a run, for the batch that is in flight then.
_GRACE_SECONDS = 600


def celery_executor_known_to(ledger: LedgerResource) -> ExecutorDefinition:
    """Dagster's Celery executor, with a lock in *ledger* that the run's process holds."""
    from dagster_celery import celery_executor

    create_celery_executor: Any = celery_executor.executor_creation_fn

    def create(context: InitExecutorContext) -> Any:
        made: Any = create_celery_executor(context)
        hand_out_and_wait = made.execute

        def execute(plan_context: Any, execution_plan: Any) -> Iterator[Any]:
            with ledger.process_config_and_initialize_cm() as initialized:
                opened: Any = initialized
                with kept_at_work(lambda: opened.open().claims, plan_context.run_id):
                    yield from hand_out_and_wait(plan_context, execution_plan)

        made.execute = execute
        return made

    return ExecutorDefinition(
        name=celery_executor.name,
        config_schema=celery_executor.config_schema.config_type,
        requirements=multiple_process_executor_requirements(),
        executor_creation_fn=create,
    )


def executor_of(settings: ExecutorSettings, *, max_run_seconds: float, ledger: LedgerResource) -> ExecutorDefinition:
    """The executor of the jobs, with its options; a secret in them stays a reference to its variable.

    Args:
        ledger: where a run that waits for workers holds a lock.

    Raises:
        ConfigurationError: Dagster's executor of this type does not accept ``executor.config``.
    """
    executor, given = _executor(settings, max_run_seconds=max_run_seconds, ledger=ledger)
    if not given:
        return executor
    # Dagster itself would validate it only in the first run.
    checked = validate_config(executor.config_schema.config_type, given)
    if not checked.success:
        told = "; ".join(dict.fromkeys(" ".join(error.message.split()) for error in checked.errors or []))
        raise ConfigurationError(f"executor.config: Dagster's executor {settings.type} does not accept it: {told}")
    return executor.configured(given, name=executor.name)


def delivers_first(settings: ExecutorSettings) -> str:
    """The Celery priority of delivering, before reading (5): the highest is 0 with Redis, and 10 otherwise."""
    return "0" if _is_redis(settings) else "10"


def celery_app(settings: ExecutorSettings, *, max_run_seconds: float) -> "Celery":
    """The application of Celery's workers: the broker, options and tasks of the executor.

    A worker acknowledges a step when it is done, not when it is received, so that the broker redelivers the step to
    another worker if the first one died.

    Raises:
        ConfigurationError: the executor is not celery, or a variable is not set.
    """
    if settings.type != "celery":
        raise ConfigurationError(f"executor: found {settings.type}; Celery's workers need: celery")
    from dagster_celery.executor import CeleryExecutor
    from dagster_celery.make_app import make_app
    from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task

    executor = CeleryExecutor.for_cli(  # type: ignore[no-untyped-call]
        broker=resolve(settings.broker),
        backend=resolve(_backend(settings)),
        include=settings.config.get("include"),
        config_source=_config_source(settings, max_run_seconds=max_run_seconds),
    )
    app = make_app(executor.app_args())  # type: ignore[no-untyped-call]
    create_task(app, acks_late=True, reject_on_worker_lost=True)  # type: ignore[no-untyped-call]
    # For dagster.yaml's CeleryRunLauncher, which starts whole runs on the workers.
    create_execute_job_task(app)
    create_resume_job_task(app)
    return app


def _executor(
    settings: ExecutorSettings, *, max_run_seconds: float, ledger: LedgerResource
) -> tuple[ExecutorDefinition, dict[str, Any]]:
    given = dict(settings.config)
    if settings.max_concurrent is not None:
        given["max_concurrent"] = settings.max_concurrent
    if settings.type == "multiprocess":
        return multiprocess_executor, given
    if settings.type == "celery":
        _check_address("broker", settings.broker)
        _check_address("backend", _backend(settings))
        given["broker"] = _named(settings.broker)
        given["backend"] = _named(_backend(settings))
        given["config_source"] = _config_source(settings, max_run_seconds=max_run_seconds)
        return celery_executor_known_to(ledger), given
    if settings.type == "k8s":
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor, given
    if settings.type == "docker":
        from dagster_docker import docker_executor

        return docker_executor, given
    return in_process_executor, given


def _config_source(settings: ExecutorSettings, *, max_run_seconds: float) -> dict[str, Any]:
    from dagster_celery.defaults import broker_transport_options

    own = settings.config.get("config_source") or {}
    transport = dict(broker_transport_options)
    if _is_redis(settings):
        transport["visibility_timeout"] = settings.redeliver_after_seconds or int(max_run_seconds) + _GRACE_SECONDS
    return {
        # One task at a time, so that waiting tasks go to idle workers.
        "worker_prefetch_multiplier": 1,
        "broker_connection_retry_on_startup": True,
        **own,
        "broker_transport_options": {**transport, **own.get("broker_transport_options", {})},
    }


def _backend(settings: ExecutorSettings) -> str | EnvRef | None:
    """Where steps report their results: in Redis itself; other brokers send them back to the run's process."""
    return settings.backend or (settings.broker if _is_redis(settings) else "rpc://")


def _is_redis(settings: ExecutorSettings) -> bool:
    return (resolve(settings.broker) or "").startswith(_REDIS)


def _check_address(name: str, secret: str | EnvRef | None) -> None:
    """Refuse an invalid URL before a library does, whose message would contain part of the password."""
    try:
        urlsplit(resolve(secret) or "").port  # noqa: B018 (it is what fails)
    except ValueError:
        raise ConfigurationError(
            f"executor.{name}: found an invalid URL; allowed: a URL such as redis://user:password@host:6379/0, with "
            "the password percent-encoded: / as %2F, @ as %40 and : as %3A"
        ) from None


def _named(secret: str | EnvRef | None) -> Any:
    """*secret* for Dagster: a reference to a variable is resolved only when a run needs it."""
    return {"env": secret.env} if isinstance(secret, EnvRef) else secret
