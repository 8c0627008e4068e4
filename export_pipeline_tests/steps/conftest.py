"""Where the ledgers of these tests lie."""

from pathlib import Path

import pytest

on_both_databases = pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)
"""For tests that run on PostgreSQL each time: one of each file, and together they execute every statement of a step."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that may be made: in a file, and at night in an empty database too.

    The tests of the ledger itself always run on both.
    """
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    url: str = request.getfixturevalue("new_postgres")
    return url
