"""Manifests that stay owed, since their subscriber takes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from export_pipeline.ledger import owed, sources, subscriptions
from export_pipeline.ledger.owed import OwedManifest
from export_pipeline.ledger.records import Subscription
from export_pipeline.steps.open import Workspace
from export_pipeline_tests.integration.project import Project


@contextmanager
def all_owed(
    project: Project, *, files: int
) -> Iterator[tuple[Workspace, Sequence[Subscription], Sequence[OwedManifest]]]:
    """After a run that delivered none of *files*, each a manifest: the project's places, and who is owed what."""
    project.config["manifest"] = {"max_files": 1}
    project.put_days("23", files=files)
    (project.root / "copy").write_text("in the way, so that all stays owed")
    project.run()
    with project.workspace() as place:
        with place.ledger.read() as tx:
            source_id = sources.source_id(tx, place.source.url)
            assert source_id is not None
            active = subscriptions.active(tx, source_id)
            chosen = owed.choose(tx, active, max_files=10, max_retries=1)
        yield place, active, chosen
