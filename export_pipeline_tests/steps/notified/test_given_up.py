"""Messages of sound content under the key of a file that was given up, with ``on_overwrite: ignore``."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from export_pipeline.ledger import manifests, unreadable
from export_pipeline.ledger import tables as t
from export_pipeline_tests.steps.conftest import on_both_databases
from export_pipeline_tests.steps.notified.export import SETTINGS, Export

KEY = "2026/11/23/10/a"


def give_up(export: Export) -> None:
    """The one file, as a run does that could not read it."""
    with export.ledger.write(durable=True) as tx:
        manifest_id = tx.execute(select(t.manifests.c.id)).scalar_one()
        manifests.count_failure(tx, manifest_id, "truncated")
        unreadable.give_up(tx, manifest_id, "truncated")


@on_both_databases
@pytest.mark.parametrize("was_ignored", [True, False])
def test_it_is_taken_by_its_message(listed: Export, was_ignored: bool) -> None:
    """A message about content that may be taken now plans it, once, also where it had been ignored before."""
    listed.settings = replace(SETTINGS, on_overwrite="ignore")
    listed.put(KEY)
    listed.run()
    if not was_ignored:
        give_up(listed)
    listed.put(KEY, text='{"sound": true}\n')
    assert listed.run().taken.files == (0 if was_ignored else 1)
    if was_ignored:
        give_up(listed)
        listed.queue.send(listed.message(KEY))
        assert listed.run().taken.files == 1
    listed.queue.send(listed.message(KEY))
    assert listed.run().taken.files == 0
    assert listed.planned() == [KEY, KEY]
