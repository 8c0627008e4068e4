"""The key ``executor``: what it takes, and what it refuses because other machines would not see it."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from export_pipeline.secrets import EnvRef
from export_pipeline_tests.configuration.conftest import Load, Problems

SHARED = """\
source: {url: "s3://acme/events"}
staging: {url: "s3://acme/staging"}
quarantine: {url: "s3://acme/quarantine"}
ledger: {url: "postgresql://me@db/export"}
"""
CELERY = SHARED + "executor: {type: celery, broker: {env: BROKER}}\n"
BROKER = {"BROKER": "redis://:planted-secret@redis/0"}
TYPES = "in_process, multiprocess, celery, k8s, docker"


def test_a_plain_text_is_the_type(load: Load) -> None:
    """The type alone will do where it needs no option; one process is the default."""
    assert load("source: {url: x}").executor.type == "in_process"
    assert load("source: {url: x}\nexecutor: multiprocess").executor.type == "multiprocess"
    assert load(SHARED + "executor: k8s").executor.type == "k8s"
    assert load(SHARED + "executor: docker").executor.is_distributed


def test_options_are_read(load: Load) -> None:
    """The broker keeps its variable's name, and what is Dagster's goes through as it is."""
    deployment = load(CELERY, BROKER)
    assert deployment.executor.broker == EnvRef(env="BROKER")
    assert "planted-secret" not in repr(deployment)
    assert BROKER["BROKER"] in deployment.secret_values()
    docker = load(SHARED + "executor: {type: docker, max_concurrent: 3, config: {image: export}}").executor
    assert (docker.max_concurrent, docker.config) == (3, {"image": "export"})


@pytest.mark.parametrize(
    ("executor", "expected"),
    [
        ("celeri", f"executor: found the text 'celeri'; allowed: {TYPES}, or a mapping with a type and its options"),
        ("[celery]", "executor: found a list; allowed: a mapping of keys"),
        ("celery", "executor: executor celery requires broker, as {env: NAME}: redis://host:6379/0"),
        ("{type: dask}", "executor.type: found the text 'dask'; allowed: 'in_process', 'multiprocess'"),
        ("{type: k8s, max_concurrent: 0}", "executor.max_concurrent: found the number 0; allowed: at least 1"),
        (
            "{max_concurrent: 2}",
            "executor: max_concurrent is an option of multiprocess, k8s and docker, but type is in",
        ),
        ("{type: k8s, broker: b}", "executor: broker is an option of celery, but type is k8s"),
        ("{shared_folders: [/mnt]}", "executor: shared_folders is an option of celery, k8s and docker"),
        ("{type: k8s, shared_folders: [mnt]}", "executor: shared_folders: found 'mnt'; allowed: absolute paths"),
        ("{type: k8s, brooker: x}", "executor.brooker: unknown key (did you mean broker?); allowed: "),
    ],
)
def test_what_is_refused(problems: Problems, executor: str, expected: str) -> None:
    """Each error is reported with its place, what was found, and what is allowed."""
    (line,) = problems(SHARED + f"executor: {executor}")
    assert line.startswith(f"x.yaml:5: {expected}")


@pytest.mark.parametrize("kind", ["celery", "k8s", "docker"])
def test_an_extra_that_is_not_installed(problems: Problems, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Where Dagster's library for the executor is missing, the error names the extra that brings it."""
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name.startswith("dagster_") else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    options = ", broker: 'redis://x'" if kind == "celery" else ""
    (line,) = problems(SHARED + f"executor: {{type: {kind}{options}}}")
    assert line == (
        f"x.yaml:5: executor: executor {kind} needs dagster-{kind}, which is not installed: "
        f'pip install "export-pipeline[{kind}]"'
    )


def test_what_other_machines_do_not_see(problems: Problems) -> None:
    """A ledger in SQLite and every local folder are refused, those that are only a default as well."""
    lines = problems(
        """
        source: {url: /data/events}
        executor: k8s
        subscribers:
          copy: {type: files, url: /data/copy}
          lake: {type: files, url: "s3://acme/lake"}
          duck: {type: warehouse, destination: duckdb}
          house: {type: warehouse, destination: postgres, connection: {env: HOUSE}}
        """,
        {"HOUSE": "postgresql://me@db/house"},
    )
    see = "which other machines cannot access, but executor k8s runs steps on them; allowed: "
    folder = see + "a bucket (s3://…, gs://…, az://…), or a folder under one of executor.shared_folders"
    assert lines == [
        f"x.yaml:1: source.url: found the text '/data/events', {folder}",
        f"x.yaml:2: ledger.url: found SQLite, {see}postgresql://user:password@host:5432/database",
        f"x.yaml:2: quarantine.url: found the text '.dagster/quarantine', {folder}",
        f"x.yaml:2: staging.url: found the text '.dagster/staging', {folder}",
        f"x.yaml:4: subscribers.copy.url: found the text '/data/copy', {folder}",
        f"x.yaml:6: subscribers.duck.url: found the text '.', {folder}",
    ]


def test_a_ledger_in_a_variable_is_looked_at(problems: Problems) -> None:
    """The value counts, not the name of its variable; and it is not shown."""
    text = CELERY.replace('ledger: {url: "postgresql://me@db/export"}', "ledger: {url: {env: LEDGER}}")
    (line,) = problems(text, {**BROKER, "LEDGER": "/planted-secret/ledger.db"})
    assert "ledger.url: found SQLite" in line
    assert "planted-secret" not in line


def test_folders_that_every_machine_has(load: Load, problems: Problems) -> None:
    """Folders below one of shared_folders are allowed, and no others."""
    text = CELERY.replace("s3://acme/staging", "/mnt/shared/staging").replace("{env: BROKER}", "{env: BROKER}, %s")
    assert load(text % "shared_folders: [/mnt/shared]", BROKER).staging.url == "/mnt/shared/staging"
    (line,) = problems(text % "shared_folders: [/mnt/share]", BROKER)
    assert "staging.url: found the text '/mnt/shared/staging'" in line


def test_multiprocess_stays_on_this_machine(load: Load, folder: Path) -> None:
    """Processes of one machine share its ledger and folders."""
    assert load("source: {url: x}\nexecutor: {type: multiprocess, max_concurrent: 2}").executor.max_concurrent == 2
