"""A world that begins with an empty ledger, in memory where the machine has a folder for that."""

from collections.abc import Iterator

import pytest

from export_pipeline_tests.simulation.play import Stage, stage


@pytest.fixture(scope="module")
def empty() -> Iterator[Stage]:
    """A world whose ledger is an empty SQLite file."""
    with stage() as made:
        yield made


@pytest.fixture(scope="module")
def empty_postgres(postgres_url: str) -> Iterator[Stage]:
    """A world whose ledger is an empty database."""
    from export_pipeline_tests.servers.postgres import new_database

    with new_database(postgres_url) as url, stage(url) as made:
        yield made
