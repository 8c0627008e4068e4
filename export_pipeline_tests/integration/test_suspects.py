"""A manifest whose reader died is read last in a run, so that whatever it does the others are delivered."""

from pathlib import Path

from dagster import DagsterEventType
from sqlalchemy import select, update

from export_pipeline.ledger import tables as t
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project


def test_what_ended_its_process_is_read_when_all_else_was_delivered(project: Project, received: Path) -> None:
    """The steps of the oldest manifest come after those of younger ones where a run died reading it."""
    lines = project.put_days("21", "22", "23")
    (received / "crm.fails").touch()
    project.config["subscribers"] = {
        "crm": {
            "type": "python",
            "function": "export_pipeline_tests.integration.receivers:crm",
            "retry_for_seconds": 0,
        }
    }
    project.run()
    (received / "crm.fails").unlink()
    with project.workspace() as place, place.ledger.write() as tx:
        oldest = tx.execute(select(t.manifests.c.id).order_by(t.manifests.c.day).limit(1)).scalar_one()
        of_it = update(t.manifests).where(t.manifests.c.id == oldest)
        tx.execute(of_it.values(reading_run_id="killed", reading_deaths=1))
    done = project.run()
    started = [
        entry.step_key
        for entry in done.entries
        if entry.dagster_event is not None
        and entry.dagster_event.event_type == DagsterEventType.STEP_START
        and entry.step_key is not None
        and "[" in entry.step_key
    ]
    assert [key.partition("[")[0] for key in started[:4]] == ["read_batches", "deliver_to_crm"] * 2
    assert all(oldest in key for key in started[4:])
    assert len(started) in (5, 6)
    assert [message for message in done.messages("warning") if "was divided into 2" in message] != []
    assert project.run().success
    assert sorted(receivers.events("crm", received)) == sorted(lines)
