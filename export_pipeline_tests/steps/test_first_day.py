"""The day of a source's first file: found by the first listing, kept in the ledger, and lowered by what comes later."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from export_pipeline.ledger import sources
from export_pipeline_tests.steps.exporting import SETTINGS, Export


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """An export of a source in which a file of August comes first, and one without a date sorts before it."""
    one = Export(tmp_path, str(tmp_path / "ledger.db"))
    one.put("2026/08/05/a", "2026/11/22/a", "0-manifest")
    return one


def known(export: Export) -> date | None:
    with export.ledger.read() as tx:
        return sources.first_day(tx, 1)


def test_a_listing_from_the_start_meets_it(export: Export) -> None:
    """The first listing begins at the first key, so the first dated file that it meets is the first one."""
    export.run()
    assert known(export) == date(2026, 8, 5)


def test_a_listing_that_begins_later_looks_for_it(export: Export) -> None:
    """With subscribers that start now only the last days are listed; the first file is looked for by itself."""
    export.subscribers = {"crm": "2026-11-22"}
    assert export.run().since == "2026/11/20"
    assert known(export) == date(2026, 8, 5)


def test_an_older_file_moves_it_back(export: Export) -> None:
    """A file before it, which a backfill finds, is the first one from then on; a later one changes nothing."""
    export.run()
    export.put("2026/02/01/late", "2026/09/01/late")
    export.ask_for(date(2026, 9, 1))
    assert known(export) == date(2026, 8, 5)
    export.ask_for(date(2026, 2, 1))
    assert known(export) == date(2026, 2, 1)


def test_files_before_start_date_do_not_count(export: Export) -> None:
    """It is the first file that is exported; where start_date is moved back, an earlier one is found."""
    export.settings = replace(SETTINGS, start_date=date(2026, 10, 1))
    export.run()
    assert known(export) == date(2026, 11, 22)
    export.settings = SETTINGS
    export.run()
    assert known(export) == date(2026, 8, 5)


def test_a_source_without_files_has_none(tmp_path: Path) -> None:
    """Nothing is recorded while there is no file, and the first one that comes is found."""
    export = Export(tmp_path, str(tmp_path / "ledger.db"))
    export.run()
    assert known(export) is None
    export.put("2026/11/22/a")
    export.run()
    assert known(export) == date(2026, 11, 22)
