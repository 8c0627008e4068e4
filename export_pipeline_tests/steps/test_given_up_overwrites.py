"""With ``on_overwrite: ignore`` the first content of a key is the one that counts, unless it could never be read."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from export_pipeline.ledger import manifests, unreadable
from export_pipeline.ledger import tables as t
from export_pipeline.ledger.records import Run
from export_pipeline.steps.completeness import compare, look, plan_missing
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.exporting import NOW, Export

KEY = "2026/11/22/a.json"
DAY = date(2026, 11, 22)
SOUND = '{"sound": true}\n'


@pytest.fixture
def export(tmp_path: Path, ledger_url: str) -> Iterator[Export]:
    made = Export(tmp_path, ledger_url)
    made.settings = replace(made.settings, on_overwrite="ignore")
    made.put(KEY)
    made.run()
    yield made
    made.ledger.close()


def give_up(export: Export) -> None:
    """The first file, as a run does that could not read it."""
    with export.ledger.write(durable=True) as tx:
        manifest_id = tx.execute(select(t.manifests.c.id).order_by(t.manifests.c.planned_at).limit(1)).scalar_one()
        manifests.count_failure(tx, manifest_id, "truncated")
        unreadable.give_up(tx, manifest_id, "truncated")


def replay(export: Export) -> int:
    """How many files a backfill of the day plans."""
    return export.ask_for(DAY).found.files


@pytest.mark.parametrize("by_listing", [True, False])
def test_a_sound_file_under_the_key_of_a_corrupt_one_is_taken(export: Export, by_listing: bool) -> None:
    """What is uploaded after the first content was given up is planned, by a listing or by a backfill, and once."""
    give_up(export)
    export.put(KEY, text=SOUND)
    assert look(export.source, export.ledger, export.settings, cursor="", now=NOW).unlisted == 1
    assert (export.run().files if by_listing else replay(export)) == 1
    assert (export.run().files, replay(export)) == (0, 0)
    assert export.owed("crm") == [KEY]


@pytest.mark.parametrize("by_listing", [True, False])
def test_what_was_ignored_is_taken_once_the_first_content_is_given_up(export: Export, by_listing: bool) -> None:
    """A file that was replaced before it was read: the new content was ignored at first, and is taken after all."""
    export.put(KEY, text=SOUND)
    assert (export.run().files, replay(export)) == (0, 0)
    give_up(export)
    assert (export.run().files if by_listing else replay(export)) == 1
    assert (export.run().files, replay(export)) == (0, 0)
    assert export.owed("crm") == [KEY]


def test_what_comes_after_a_sound_content_is_ignored_again(export: Export) -> None:
    """Once the sound content was taken it is the one that counts, though another one had been given up."""
    give_up(export)
    export.put(KEY, text=SOUND)
    export.run()
    export.put(KEY, text='{"third": true}\n')
    assert (export.run().overwritten, replay(export)) == (1, 0)
    assert len(export.planned()) == 2


@on_both_databases
@pytest.mark.parametrize("was_ignored", [True, False])
def test_the_check_of_completeness_misses_it(export: Export, was_ignored: bool) -> None:
    """A content that could be taken and was not is missing, as any file that no run has found, and can be planned."""
    if not was_ignored:
        give_up(export)
    export.put(KEY, text=SOUND)
    if was_ignored:
        export.run()
        give_up(export)
    due = NOW + timedelta(days=36_500)
    found = compare(
        export.source, export.ledger, export.settings, first_day=DAY, last_day=DAY, wanted=["crm"], due_before=due
    )
    assert [one.file.key for one in found.missing] == [KEY]
    repaired = plan_missing(
        export.source,
        export.ledger,
        export.settings,
        found.missing,
        wanted=export.subscribers,
        run=Run("check", NOW),
    )
    assert (repaired.files, export.owed("crm")) == (1, [KEY])
