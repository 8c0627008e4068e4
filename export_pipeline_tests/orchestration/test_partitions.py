"""Where the partitions begin, whatever state the ledger is in when the definitions load."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from export_pipeline.deployment import Deployment, load_deployment
from export_pipeline.ledger import sources
from export_pipeline.ledger.database import Ledger
from export_pipeline.orchestration.build import definitions_of, loaded_definitions
from export_pipeline.orchestration.partitions import first_partition
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.programs import free_port

TODAY = date(2026, 11, 23)
SCHEMAS = Path(__file__).parents[1] / "ledger" / "schemas"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A deployment whose ledger does not exist yet."""
    return Project(tmp_path)


def deployment(project: Project) -> Deployment:
    return load_deployment(str(project.deployment_path))


def begin(project: Project, today: date = TODAY) -> date:
    return first_partition(deployment(project), today=today)


def know(project: Project, day: date) -> None:
    """Have the ledger know the day of the source's first file."""
    ledger = Ledger(project.config["ledger"]["url"])
    with ledger.write() as tx:
        sources.set_first_day(tx, sources.add_source(tx, project.bucket.as_uri()), day)
    ledger.close()


def test_they_begin_at_the_first_file(project: Project) -> None:
    """The ledger knows the day since the first listing; one in the future leaves today."""
    know(project, date(2026, 8, 5))
    assert begin(project) == date(2026, 8, 5)
    assert begin(project, date(2026, 8, 1)) == date(2026, 8, 1)


def test_they_begin_at_start_date_where_it_is_set(project: Project) -> None:
    """What the deployment file sets is followed, also where files came earlier, and no ledger is asked."""
    know(project, date(2026, 8, 5))
    project.config["source"]["start_date"] = "2026-10-01"
    assert begin(project) == date(2026, 10, 1)


def test_without_a_ledger_they_begin_with_the_last_year(project: Project) -> None:
    """A new deployment gets no thousands of empty partitions; asking creates no ledger."""
    assert begin(project) == date(2025, 1, 1)
    assert not (project.root / "ledger.db").exists()
    Ledger(project.config["ledger"]["url"]).close()
    assert begin(project) == date(2025, 1, 1)


@pytest.mark.parametrize("revision", ["0001", "0008"])
def test_a_ledger_of_an_older_version_hides_no_day(project: Project, revision: str) -> None:
    """Until a run has migrated it all days can be chosen; asking migrates nothing."""
    with closing(sqlite3.connect(project.root / "ledger.db")) as connection:
        connection.executescript((SCHEMAS / f"{revision}.sqlite.sql").read_text("utf-8"))
    assert begin(project) == date(2020, 1, 1)
    with closing(sqlite3.connect(project.root / "ledger.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]


def test_a_ledger_out_of_reach_hides_no_day(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is down, a file is no database, a variable is not set: the definitions load, with all days."""
    urls = (f"postgresql://export:secret@127.0.0.1:{free_port()}/none", {"env": "LEDGER_URL"})
    for url in urls:
        project.config["ledger"]["url"] = url
        with monkeypatch.context() as patch:
            patch.setenv("LEDGER_URL", str(project.root / "broken.db"))
            (project.root / "broken.db").write_text("no database" * 1_000)
            loaded = deployment(project)
            assert first_partition(loaded, today=TODAY) == date(2020, 1, 1)
    assert first_partition(loaded, today=TODAY) == date(2020, 1, 1)


def test_a_ledger_in_postgresql_is_asked(project: Project, new_postgres: str) -> None:
    """The day comes from PostgreSQL, too; an empty database is no ledger yet."""
    project.config["ledger"]["url"] = new_postgres
    assert begin(project) == date(2025, 1, 1)
    know(project, date(2026, 8, 5))
    assert begin(project) == date(2026, 8, 5)


def test_a_code_location_loads_with_them(project: Project) -> None:
    """Assets and backfill_job have the days from the first file on; definitions of the command line have them all."""
    know(project, date(2026, 8, 5))
    for definitions, first in (
        (loaded_definitions(deployment(project)), "2026-08-05"),
        (definitions_of(deployment(project)), "2020-01-01"),
    ):
        job = definitions.resolve_job_def("backfill_job")
        assert job.partitions_def is not None
        assert job.partitions_def.get_first_partition_key() == first
        graph = definitions.resolve_asset_graph()
        assert {graph.get(key).partitions_def for key in graph.get_all_asset_keys()} == {job.partitions_def}
