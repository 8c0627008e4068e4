"""The files under deployments/, as far as they can be checked where nothing of it can be started."""

import importlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import validate_parameters
from dagster import DagsterInstance
from dagster._grpc.constants import GrpcServerCommand
from dagster_k8s.models import k8s_snake_case_dict
from kubernetes.client import V1PodSecurityContext, V1ResourceRequirements, V1SecurityContext, V1Volume, V1VolumeMount

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.orchestration.names import LEDGER_TAG
from export_pipeline_tests.documents.blocks import ROOT
from export_pipeline_tests.documents.test_services import HOME, SYSTEMD, UNITS
from export_pipeline_tests.servers.programs import program

DEPLOYMENTS = ROOT / "deployments"
VARIABLES = {
    "LEDGER_URL": "postgresql://export:pw@db/export",
    "CRM_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "CELERY_BROKER": "redis://:pw@redis/0",
    "DAGSTER_POSTGRES_URL": "postgresql+psycopg2://export:pw@db/dagster",
}
# Of Dagster's Helm chart, read in its own models (helm/dagster/schema/schema/charts in Dagster's repository); the chart
# itself drops an unknown name without a word.
CHART = {
    "global": {"postgresqlSecretName", "dagsterHome", "serviceAccountName", "celeryConfigSecretName"},
    "dagsterWebserver": {"replicaCount", "image", "service", "env", "envSecrets", "resources", "workspace"},
    "dagsterDaemon": {"enabled", "image", "runCoordinator", "runMonitoring", "env", "envSecrets", "resources"},
    "runLauncher": {"type", "config"},
    "postgresql": {
        "enabled",
        "postgresqlHost",
        "postgresqlUsername",
        "postgresqlPassword",
        "postgresqlDatabase",
        "postgresqlScheme",
        "service",
    },
    "computeLogManager": {"type", "config"},
    "pythonLogs": {"managedPythonLoggers", "pythonLogLevel", "dagsterHandlerConfig"},
    "telemetry": {"enabled"},
    "rabbitmq": {"enabled"},
    "redis": {"enabled"},
    "flower": {"enabled"},
    "dagster-user-deployments": {"enabled", "enableSubchart", "deployments", "imagePullSecrets"},
    "generatePostgresqlPasswordSecret": set[str](),
}
USER_CODE = {
    "name",
    "image",
    "port",
    "dagsterApiGrpcArgs",
    "includeConfigInLaunchedRuns",
    "env",
    "envSecrets",
    "resources",
    "podSecurityContext",
    "securityContext",
    "volumes",
    "volumeMounts",
}
RUN_LAUNCHER = {
    "image",
    "imagePullPolicy",
    "jobNamespace",
    "loadInclusterConfig",
    "kubeconfigFile",
    "envConfigMaps",
    "envSecrets",
    "envVars",
    "volumeMounts",
    "volumes",
    "labels",
    "failPodOnRunFailure",
}


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def read(path: str) -> Any:
    return yaml.safe_load((DEPLOYMENTS / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("way", ["docker", "kubernetes", "ecs"])
def test_each_deployment_file_loads(way: str) -> None:
    """The deployment file is right, what it shares is seen by every machine, and Dagster takes its executor."""
    deployment = load_deployment(str(DEPLOYMENTS / way / "export.yaml"))
    definitions = definitions_of(deployment)
    assert definitions.resolve_job_def("export_job").executor_def.name == deployment.executor.type
    assert deployment.executor.type == {"docker": "celery", "kubernetes": "k8s", "ecs": "in_process"}[way]


@pytest.mark.parametrize("way", ["docker", "ecs"])
def test_each_dagster_yaml_makes_an_instance(
    way: str, tmp_path: Path, new_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The installed Dagster makes an instance of the file, over a real PostgreSQL: every class that it names takes its
    settings, storage is there, and no run outlives the machine that it ran on for ever.
    """
    # As the files say: without the driver's name SQLAlchemy 2.1 would look for psycopg 3.
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", new_postgres.replace("postgresql:", "postgresql+psycopg2:"))
    shutil.copy(DEPLOYMENTS / way / "dagster.yaml", tmp_path)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs() == []
        launcher, logs = {
            "docker": ("DefaultRunLauncher", "NoOpComputeLogManager"),
            "ecs": ("EcsRunLauncher", "S3ComputeLogManager"),
        }[way]
        assert type(instance.run_launcher).__name__ == launcher
        assert type(instance.compute_log_manager).__name__ == logs
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 4
        assert {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits} == {LEDGER_TAG: 4}
        assert (queue.max_user_code_failure_retries, queue.user_code_failure_retry_delay) == (10, 10)


def test_the_charts_run_coordinator_keeps_queued_runs() -> None:
    """The class that the chart's values name takes their settings, and tries a queued run again, as everywhere else."""
    given = read("kubernetes/values.yaml")["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    module: Any = importlib.import_module(given["module"])
    queue = getattr(module, given["class"])(**given["config"]).get_run_queue_config()
    assert (queue.max_user_code_failure_retries, queue.user_code_failure_retry_delay) == (10, 10)
    assert {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits} == {LEDGER_TAG: 4}


def test_every_code_server_that_is_shipped_loads_lazily() -> None:
    """What a deployment file does wrong shows in the UI, however the code server is started, and it does not die of it.

    `dagster dev`, `dagster-webserver` and `dagster-daemon` give their own code servers the option themselves.
    """
    started = [
        path
        for path in sorted(DEPLOYMENTS.rglob("*"))
        if path.is_file() and "export_pipeline.definitions" in path.read_text(encoding="utf-8")
    ]
    assert [path.relative_to(DEPLOYMENTS).as_posix() for path in started] == [
        "docker/compose.yaml",
        "ecs/code.json",
        "kubernetes/values.yaml",
        "systemd/export-pipeline-code.service",
    ]
    for path in started:
        assert path.read_text(encoding="utf-8").count("--lazy-load-user-code") == 1, path
    assert "--lazy-load-user-code" in GrpcServerCommand.API_GRPC.server_command


def test_the_image_is_made_of_what_there_is() -> None:
    """What the Dockerfile copies exists and is all that the package is built from; each way that it can be built for is
    there.
    """
    text = (DEPLOYMENTS / "docker" / "Dockerfile").read_text(encoding="utf-8")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0].isupper()]
    copied = [name for word, rest in instructions if word == "COPY" for name in rest.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    built_from = {"pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE", "requirements.lock"}
    assert {*built_from, "export_pipeline"} <= set(copied)
    (command,) = (json.loads(rest) for word, rest in instructions if word == "CMD")
    assert command[:2] == ["dagster-daemon", "run"]


def test_the_values_have_names_of_the_chart() -> None:
    """No value of the Helm chart is misspelt, the run launcher's, the user code's and Kubernetes' own included."""
    values = read("kubernetes/values.yaml")
    assert set(values) <= set(CHART)
    for section, known in CHART.items():
        if known and section in values:
            assert set(values[section]) <= known, section
    assert set(values["runLauncher"]["config"]["k8sRunLauncher"]) <= RUN_LAUNCHER
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert set(code) <= USER_CODE
    # Where the chart passes on what is Kubernetes' own, its client's models know the names.
    for name, model in {
        "podSecurityContext": V1PodSecurityContext,
        "securityContext": V1SecurityContext,
        "resources": V1ResourceRequirements,
    }.items():
        k8s_snake_case_dict(model, code[name])
    for volume, mount in zip(code["volumes"], code["volumeMounts"], strict=True):
        k8s_snake_case_dict(V1Volume, volume)
        k8s_snake_case_dict(V1VolumeMount, mount)
        assert volume["name"] == mount["name"]
    assert code["dagsterApiGrpcArgs"][1] == "export_pipeline.definitions"
    assert {"name": "EXPORT_DEPLOYMENT", "value": "deployments/kubernetes/export.yaml"} in code["env"]


@pytest.mark.parametrize("name", ["code", "daemon", "webserver"])
def test_task_definitions_fit_awss_model(name: str) -> None:
    """ECS's own model of RegisterTaskDefinition, as botocore ships it, takes each task definition."""
    task = json.loads((DEPLOYMENTS / "ecs" / f"{name}.json").read_text(encoding="utf-8"))
    model: Any = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
    # It raises for what is missing, of another type, or unknown, at any depth.
    validate_parameters(task, model.input_shape)
    (container,) = task["containerDefinitions"]
    program(container["command"][0], "the packages of this project")
    assert '"value": "postgresql' not in json.dumps(task), "a secret belongs into secrets"


def _verified(tmp_path: Path) -> Iterator[str]:
    """What ``systemd-analyze verify`` says of the units, their programs in the place of those of /opt."""
    analyze = program("systemd-analyze", "apt-get install systemd")
    folder = tmp_path / "bin"
    folder.mkdir()
    copies = []
    for path in sorted(SYSTEMD.glob("*.service")):
        text = path.read_text(encoding="utf-8")
        command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
        executable = Path(shlex.split(command.removeprefix("ExecStart="))[0]).name
        fake = folder / executable
        fake.write_text("#!/bin/sh\n")
        fake.chmod(0o755)
        copy = tmp_path / path.name.replace("@", "@1")
        copy.write_text(text.replace(f"{HOME}/.venv/bin", str(folder)))
        copies.append(str(copy))
    done = subprocess.run([analyze, "verify", *copies], capture_output=True, text=True, check=False)
    yield from (done.stdout + done.stderr).splitlines()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """systemd's own check finds nothing unknown or wrong in the units."""
    assert UNITS
    ours = [line for line in _verified(tmp_path) if "export-pipeline" in line]
    assert ours == []
