"""What a page of a run and a terminal show of keys as an attacker would choose them."""

import re
from pathlib import Path
from typing import Any

from dagster import DagsterEventType

from export_pipeline_tests.integration.project import Run

DAY = "2026/11/23/00/"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


def below(root: Path) -> list[str]:
    """Every path below a folder, without what Dagster keeps there."""
    paths = (str(path.relative_to(root)) for path in root.rglob("*"))
    return [path for path in paths if not path.startswith(("home", "bucket"))]


def texts(run: Run) -> list[str]:
    """All that the run's page shows as text: messages, errors, and the text of metadata."""
    found: list[str] = []
    for entry in run.entries:
        found.append(entry.user_message)
        event = entry.dagster_event
        if event is not None and event.event_type is DagsterEventType.STEP_FAILURE:
            failure = event.step_failure_data.user_failure_data
            assert failure is not None
            found.append(failure.description or "")
            found += [str(value.value) for value in failure.metadata.values()]
        if event is not None and event.is_step_materialization:
            found += map(str, _cells(event.step_materialization_data.materialization.metadata))
    return found


def _cells(metadata: Any) -> list[object]:
    records = [record for value in metadata.values() for record in getattr(value, "records", ())]
    return [cell for record in records for cell in record.data.values()]
