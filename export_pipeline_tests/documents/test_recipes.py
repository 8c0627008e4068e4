"""docs/recipes.md: each recipe does what it says, with a sample bucket instead of its own. test_pages.py validates
every deployment file on the page.

test_pages.py validates every deployment file on the page.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from export_pipeline.sample_bucket import make_sample_bucket
from export_pipeline_tests.documents.blocks import ROOT, Block, all_blocks
from export_pipeline_tests.servers.alerts import AlertReceiver
from export_pipeline_tests.servers.receiver import Receiver
from export_pipeline_tests.servers.s3 import REGION, S3Server, moto_server

# Several programs are started in each: on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(900)

EVENTS = 60
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BLOCKS = [block for block in all_blocks(marked=True) if block.page == "recipes.md"]


def block_of(path: str) -> Block:
    (found,) = (block for block in BLOCKS if block.file == path)
    return found


def sql(name: str) -> str:
    """The statements of the block whose first line is a comment with this name."""
    (found,) = (block.text for block in BLOCKS if block.language == "sql" and block.text.startswith(f"-- {name}\n"))
    return found


class Kitchen:
    """A project folder whose S3 has the buckets of the recipes, with the sample events in each source."""

    def __init__(self, folder: Path, s3: S3Server) -> None:
        self.folder = folder
        self.s3 = s3
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("EXPORT_", "DAGSTER_"))},
            "AWS_ENDPOINT_URL": s3.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "DAGSTER_HOME": str(folder),
        }

    def write(self, path: str, **changes: Any) -> None:
        """Save a block under its name; *changes* replace values, whose path is written with double underscores."""
        text = block_of(path).text
        if changes:
            content = yaml.safe_load(text)
            for place, value in changes.items():
                *above, last = place.split("__")
                inner = content
                for key in above:
                    inner = inner[key]
                inner[last] = value
            text = yaml.safe_dump(content)
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")

    def run(self, command: str, **environment: str) -> str:
        environ = {**self.environment, **environment}
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def keys(self, prefix: str) -> list[str]:
        listed = self.s3.client().list_objects_v2(Bucket="acme-archive", Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("recipes")
    bucket = folder / "sample"
    make_sample_bucket(bucket, events=EVENTS, files=6, until=datetime(2026, 11, 4, tzinfo=timezone.utc))
    objects = {f"events/{path.relative_to(bucket)}": path.read_bytes() for path in bucket.rglob("*") if path.is_file()}
    with moto_server(folder) as server:
        for name in ("acme-analytics", "acme-app", "acme-archive"):
            server.client().create_bucket(Bucket=name)
        server.put("acme-analytics", objects)
        server.put("acme-app", objects)
        yield server


@pytest.fixture
def kitchen(filled: S3Server, tmp_path: Path) -> Kitchen:
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    return Kitchen(tmp_path, filled)


def test_duckdb(kitchen: Kitchen) -> None:
    """The recipe for DuckDB loads every event once, and its query answers."""
    import duckdb

    kitchen.write("deployments/duckdb.yaml")
    kitchen.run("export-pipeline run -d duckdb")
    with duckdb.connect(str(kitchen.folder / "analytics.duckdb"), read_only=True) as connection:
        rows = connection.execute(sql("analytics.duckdb")).fetchall()
    assert sum(events for _, events, _ in rows) == EVENTS
    assert all(0 < visitors <= events for _, events, visitors in rows)


@pytest.mark.thorough
def test_postgresql_and_a_bi_tool(kitchen: Kitchen, new_postgres: str) -> None:
    """The recipe for PostgreSQL loads every event; its role reads the view, no personal data, and changes nothing."""
    import psycopg2

    kitchen.write("deployments/postgres.yaml")
    kitchen.run("export-pipeline run -d postgres", LEDGER_URL=new_postgres, WAREHOUSE_URL=new_postgres)
    connection = psycopg2.connect(new_postgres)
    connection.autocommit = True
    role = f"bi_reader_{os.getpid()}"
    statements = sql("postgres").replace("bi_reader", role)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statements)
            cursor.execute(f"SET ROLE {role}")
            cursor.execute("SELECT sum(events), min(day), max(day) FROM analytics.daily_events")
            events, first, last = cursor.fetchone()
            assert (int(events), last.isoformat()) == (EVENTS, "2026-11-03")
            assert first <= last
            cursor.execute("SELECT * FROM analytics.events LIMIT 1")
            assert "endpoint" not in [column.name for column in cursor.description]
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("DELETE FROM analytics.events")
            cursor.execute("RESET ROLE")
            cursor.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    finally:
        connection.close()


@pytest.mark.thorough
def test_a_webhook_with_alerts(kitchen: Kitchen) -> None:
    """The recipe for a webhook posts every event, signed with the secret; the alert's address is accepted."""
    with Receiver(SECRET) as receiver, AlertReceiver() as team:
        kitchen.write("deployments/webhook.yaml", subscribers__crm__url=receiver.url)
        variables = {"CRM_WEBHOOK_SECRET": SECRET, "TEAM_URL": team.address, "EXPORT_DEPLOYMENT": "webhook"}
        kitchen.run("export-pipeline check && export-pipeline run", **variables)
        assert len(receiver.events()) == EVENTS


@pytest.mark.thorough
def test_replaying_history(kitchen: Kitchen) -> None:
    """The commands of the recipe deliver the days to the new destination, each event once, and to nobody else again."""
    import duckdb

    kitchen.write("deployments/history.yaml", subscribers__archive__url="s3://acme-archive/history/")
    text = (kitchen.folder / "deployments/history.yaml").read_text()
    before = yaml.safe_load(text)
    new = before["subscribers"].pop("lake")
    (kitchen.folder / "deployments/history.yaml").write_text(yaml.safe_dump(before))
    kitchen.run("export-pipeline run -d history")
    archived = kitchen.keys("history/")
    before["subscribers"]["lake"] = new
    (kitchen.folder / "deployments/history.yaml").write_text(yaml.safe_dump(before))
    (commands,) = (block.text for block in BLOCKS if block.language == "sh" and "replay" in block.text)
    kitchen.run(f"set -e\n{commands}")
    with duckdb.connect(str(kitchen.folder / "lake.duckdb"), read_only=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM export.events").fetchone() or (0,)
    assert count == EVENTS
    assert kitchen.keys("history/") == archived


@pytest.mark.thorough
def test_your_own_subscriber(kitchen: Kitchen) -> None:
    """The class of the recipe, found in the working folder, gets every event; the image copies the recipe's files."""
    spool = kitchen.folder / "spool"
    spool.mkdir()
    kitchen.write("acme_export/spool.py")
    kitchen.write("export.yaml", subscribers__spool__folder=str(spool))
    kitchen.run("export-pipeline run -d export.yaml")
    assert sum(len(path.read_bytes().splitlines()) for path in spool.glob("*.ndjson")) == EVENTS
    (image,) = (block.text for block in BLOCKS if block.language == "dockerfile")
    copied = re.findall(r"^COPY (\S+) ", image, re.MULTILINE)
    assert copied == ["pyproject.toml", "acme_export", "export.yaml"]
    base = (ROOT / "deployments" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert "ENV DAGSTER_HOME=/opt/export-pipeline/home EXPORT_DEPLOYMENT=deployments/${WAY}/export.yaml" in base
    assert "ARG WAY=docker" in base


@pytest.mark.thorough
def test_two_exports(kitchen: Kitchen) -> None:
    """Both exports of the recipe load in one code location, and each delivers the events of its source."""
    for path in ("deployments/web.yaml", "deployments/app.yaml", "my_exports.py"):
        kitchen.write(path)
    for name in ("web", "app"):
        kitchen.run(f"dagster job execute -m my_exports -j {name}_export_job")
        assert kitchen.keys(f"{name}/")
        status = kitchen.run(f"export-pipeline status -d {name} --json")
        assert "archive" in status
