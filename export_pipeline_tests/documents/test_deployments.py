"""The files under deployments/, as far as they can be checked where nothing of it can be started."""

import importlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import validate_parameters
from dagster._config import resolve_to_config_type, validate_config
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import definitions_of
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
def test_each_dagster_yaml_is_taken_by_dagster(way: str, tmp_path: Path) -> None:
    """Dagster's own schema takes the file, storage is PostgreSQL, and each class that it names takes its settings."""
    shutil.copy(DEPLOYMENTS / way / "dagster.yaml", tmp_path)
    settings, _ = dagster_instance_config(str(tmp_path))
    assert settings["telemetry"] == {"enabled": False}
    assert settings["run_monitoring"]["enabled"] is True
    reference = InstanceRef.from_dir(str(tmp_path))
    assert type(reference.compute_log_manager).__name__ in ("NoOpComputeLogManager", "S3ComputeLogManager")
    for part in (reference.run_launcher_data, reference.storage_data, reference.compute_logs_data):
        assert part is not None
        named = getattr(importlib.import_module(part.module_name), part.class_name)
        checked = validate_config(resolve_to_config_type(named.config_type()), part.config_dict)
        assert checked.success, checked.errors
    assert reference.storage_data is not None
    assert reference.storage_data.class_name == "DagsterPostgresStorage"
    assert reference.run_launcher_data is not None
    assert reference.run_launcher_data.class_name == {"docker": "DefaultRunLauncher", "ecs": "EcsRunLauncher"}[way]


def test_compose_has_what_the_services_need() -> None:
    """Every service has an image, a command of a program that there is, its network names, volumes and dependencies."""
    compose = read("docker/compose.yaml")
    services: Mapping[str, Any] = compose["services"]
    named = {volume for service in services.values() for volume in service.get("volumes", [])}
    assert {volume.split(":")[0] for volume in named} == set(compose["volumes"])
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
    for name in ("migrate", "code", "daemon", "webserver", "worker"):
        assert services[name]["image"] == "export-pipeline"
        program(services[name]["command"][0], "the packages of this project")
    (target,) = read("docker/workspace.yaml")["load_from"]
    assert (target["grpc_server"]["host"], target["grpc_server"]["port"]) == ("code", 4266)
    assert services["code"]["command"][-1] == "4266"
    assert services["webserver"]["ports"] == ["127.0.0.1:3000:3000"]
    worker = services["worker"]
    assert worker["profiles"] == services["redis"]["profiles"] == ["celery"]
    assert worker["environment"].keys() == VARIABLES.keys() - {"CRM_WEBHOOK_SECRET"}


def test_the_image_is_made_of_what_there_is() -> None:
    """What the Dockerfile copies exists and is all that the package is built from; each way that it can be built for is
    there.
    """
    text = (DEPLOYMENTS / "docker" / "Dockerfile").read_text(encoding="utf-8")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0].isupper()]
    copied = [name for word, rest in instructions if word == "COPY" for name in rest.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "setup.cfg", "constraints.txt", "export_pipeline"} <= set(copied)
    (command,) = (json.loads(rest) for word, rest in instructions if word == "CMD")
    assert command[:2] == ["dagster-daemon", "run"]


def test_the_values_have_names_of_the_chart() -> None:
    """No value of the Helm chart is misspelt, the run launcher's and the user code's included."""
    values = read("kubernetes/values.yaml")
    assert set(values) <= set(CHART)
    for section, known in CHART.items():
        if known and section in values:
            assert set(values[section]) <= known, section
    assert set(values["runLauncher"]["config"]["k8sRunLauncher"]) <= RUN_LAUNCHER
    (code,) = values["dagster-user-deployments"]["deployments"]
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
