"""The work of one run of the export, without Dagster: ``python data_path.py BUCKET MAX_FILES`` in a project's folder.

It calls the same functions as the ops do, with the same settings, and writes to ``times.json`` how long each part took:
wall seconds, and CPU seconds of all threads.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

_BEGAN = (time.perf_counter(), time.process_time())

from datetime import timedelta  # noqa: E402 (the imports are a part of what is timed)

from export_pipeline.batching.batch import Batch  # noqa: E402
from export_pipeline.batching.quarantine import Quarantine  # noqa: E402
from export_pipeline.batching.staging import Staging  # noqa: E402
from export_pipeline.configuration.settings import ExportSettings  # noqa: E402
from export_pipeline.ledger import owed  # noqa: E402
from export_pipeline.ledger.database import Ledger, utc_now  # noqa: E402
from export_pipeline.ledger.records import PlanLimits, Run  # noqa: E402
from export_pipeline.source.file import ReadLimits  # noqa: E402
from export_pipeline.source.layout import Layout  # noqa: E402
from export_pipeline.source.settings import SourceSettings  # noqa: E402
from export_pipeline.source.store import open_source  # noqa: E402
from export_pipeline.steps.deliver import deliver  # noqa: E402
from export_pipeline.steps.discover import DiscoverySettings, discover  # noqa: E402
from export_pipeline.steps.open import Workspace  # noqa: E402
from export_pipeline.steps.read import ensure_staged  # noqa: E402
from export_pipeline.storage.objects import open_objects  # noqa: E402

# As in export_pipeline.definitions, once everything is imported.
gc.freeze()

_RUN = "data-path"


class Files:
    """The ``files`` subscriber without the Dagster resource around it."""

    retry_for_seconds = 30.0

    def __init__(self, folder: str) -> None:
        self._objects = open_objects(folder)

    def deliver(self, batch: Batch) -> None:
        """Write the batch's object."""
        assert batch.staged_file
        name = batch.date.strftime("%Y/%m/%d/") + batch.id + ".ndjson"
        self._objects.put_file(name, batch.data, batch.staged_file)

    def secret_values(self) -> tuple[str, ...]:
        """None."""
        return ()


class Clock:
    """Adds up the time of each part.

    Attributes:
        seconds: part → wall and CPU seconds.
    """

    def __init__(self, began: tuple[float, float]) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self._began = began

    def start(self) -> None:
        """Begin a part."""
        self._began = (time.perf_counter(), time.process_time())

    def stop(self, part: str) -> None:
        """End the current part."""
        wall, cpu = self.seconds.get(part, (0.0, 0.0))
        self.seconds[part] = (
            wall + time.perf_counter() - self._began[0],
            cpu + time.process_time() - self._began[1],
        )


def main() -> None:
    """List, plan, read and deliver once."""
    bucket, max_files = sys.argv[1], int(sys.argv[2])
    clock = Clock(_BEGAN)
    clock.stop("imports")
    settings = SourceSettings(
        url=f"s3://{bucket}/events/",
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        region_name=os.environ["AWS_REGION"],
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    )
    defaults = ExportSettings()
    clock.start()
    source = open_source(settings)
    place = Workspace(
        source=source,
        ledger=Ledger(".dagster/export.db"),
        staging=Staging(open_objects(".dagster/staging", private=True)),
        quarantine=Quarantine(open_objects(".dagster/quarantine", private=True)),
        limits=ReadLimits(**defaults.limits.model_dump()),
        max_attempts=defaults.max_attempts,
    )
    found = discover(
        source,
        place.ledger,
        DiscoverySettings(
            layout=Layout(settings.layout),
            start_date=settings.start_date,
            lookback=timedelta(hours=defaults.lookback_hours),
            on_overwrite=settings.on_overwrite,
            start_from=str(defaults.start_from),
            limits=PlanLimits(
                max_events=defaults.batch.max_events,
                max_bytes=defaults.batch.max_bytes,
                manifest_max_files=defaults.manifest.max_files,
                manifest_max_bytes=defaults.manifest.max_bytes,
            ),
            prefix="events/",
        ),
        cursor="",
        wanted={"one": None},
        max_files=max_files,
        run=Run(_RUN, utc_now()),
    )
    with place.ledger.write() as tx:
        chosen = owed.choose(tx, found.subscriptions, max_files=max_files, max_retries=1)
        owed.assign(tx, chosen, found.subscriptions, _RUN)
    clock.stop("find")
    files = Files("out/one")
    for manifest in chosen:
        clock.start()
        ensure_staged(place, manifest.id, run_id=_RUN)
        clock.stop("read")
        clock.start()
        for subscription in found.subscriptions:
            deliver(place, manifest.id, subscription, files, run_id=_RUN)
        clock.stop("deliver")
    place.staging.close()
    source.close()
    Path("times.json").write_text(json.dumps(clock.seconds))


if __name__ == "__main__":
    main()
