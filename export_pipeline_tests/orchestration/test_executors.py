"""From ``executor:`` to Dagster's executors."""

import pytest

from export_pipeline.configuration.executor import ExecutorSettings
from export_pipeline.errors import ConfigurationError
from export_pipeline.orchestration.executors import celery_app, delivers_first, executor_of
from export_pipeline.orchestration.resources import LedgerResource
from export_pipeline.secrets import EnvRef

LEDGER = LedgerResource(url="postgresql://127.0.0.1:1/ledger")


def settings(kind: str, **options: object) -> ExecutorSettings:
    return ExecutorSettings.model_validate({"type": kind, **options})


@pytest.mark.parametrize(
    ("kind", "name"), [("in_process", "in_process"), ("multiprocess", "multiprocess"), ("k8s", "k8s")]
)
def test_each_type_is_one_of_dagsters(kind: str, name: str) -> None:
    """The executor is Dagster's own."""
    assert executor_of(settings(kind), max_run_seconds=60, ledger=LEDGER).name == name


@pytest.mark.filterwarnings("ignore:.*docker_executor:dagster.BetaWarning")
def test_docker_takes_its_options() -> None:
    """Options of Dagster's executor go through under its names."""
    given = settings("docker", max_concurrent=2, config={"image": "export", "networks": ["one"]})
    assert executor_of(given, max_run_seconds=60, ledger=LEDGER).name == "docker"


def test_an_option_that_dagster_does_not_know() -> None:
    """Dagster's own schema is asked when the definitions load."""
    with pytest.raises(
        ConfigurationError, match=r"^executor\.config: Dagster's executor k8s does not accept it: .*job_nam"
    ):
        executor_of(settings("k8s", config={"job_nam": "export"}), max_run_seconds=60, ledger=LEDGER)


def test_workers_and_executor_have_one_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker tells what it has done, takes one step at a time, and a lost step comes back after a run's time."""
    monkeypatch.setenv("BROKER", "redis://127.0.0.1:1/0")
    given = settings("celery", broker=EnvRef(env="BROKER"))
    app = celery_app(given, max_run_seconds=600)
    assert app.conf.broker_transport_options["visibility_timeout"] == 1_200
    assert (app.conf.worker_prefetch_multiplier, app.conf.broker_url) == (1, "redis://127.0.0.1:1/0")
    assert app.conf.result_backend == "redis://127.0.0.1:1/0"
    task = app.tasks["execute_plan"]
    assert (task.acks_late, task.reject_on_worker_lost) == (True, True)
    assert executor_of(given, max_run_seconds=600, ledger=LEDGER).name == "celery"
    assert delivers_first(given) == "0"


def test_results_come_back_through_any_broker() -> None:
    """RabbitMQ cannot store Celery's results: they come back to the run's process, unless a backend is named."""
    given = settings("celery", broker="amqp://rabbit//")
    assert celery_app(given, max_run_seconds=600).conf.result_backend == "rpc://"
    named = settings("celery", broker="amqp://rabbit//", backend="redis://redis/1")
    assert celery_app(named, max_run_seconds=600).conf.result_backend == "redis://redis/1"


def test_delivering_goes_first_at_every_broker() -> None:
    """Redis counts from 0 on, RabbitMQ from its highest priority down."""
    assert delivers_first(settings("celery", broker="amqp://rabbit//")) == "10"
    assert delivers_first(settings("celery", broker="rediss://redis/0")) == "0"


def test_workers_need_the_executor_celery() -> None:
    """A worker of a deployment that has another executor does not start."""
    with pytest.raises(ConfigurationError, match=r"executor: found multiprocess; Celery's workers need: celery"):
        celery_app(settings("multiprocess"), max_run_seconds=60)


def test_a_broker_that_is_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password with a slash that is not quoted is refused when the definitions load, and is not shown."""
    monkeypatch.setenv("BROKER", "redis://:first-half/second@127.0.0.1:6379/0")
    with pytest.raises(ConfigurationError, match=r"^executor\.broker: found an invalid URL; .* %2F") as refused:
        executor_of(settings("celery", broker=EnvRef(env="BROKER")), max_run_seconds=60, ledger=LEDGER)
    assert "half" not in str(refused.value)
