"""One export as a Dagster component: ``type: export_pipeline.Export`` in a ``defs.yaml``."""

import textwrap
from pathlib import Path

import yaml
from dagster import Component, ComponentLoadContext, Definitions, Model, Resolvable
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_with
from pydantic import Field

from export_pipeline import build_defs

_DEPLOYMENT = "deployment.yaml"
_STARTER = """\
    # Where raw files land, and which subscribers get their events. Paths are relative to this folder.
    # Write a secret as {env: NAME}.

    source:
      url: s3://acme-analytics/events/   # or gs://…, az://…, a folder

    subscribers:
      archive:
        type: files                      # writes each batch as one NDJSON object
        url: s3://acme-archive/events/
    """


class ExportScaffolder(Scaffolder):
    """``dg scaffold defs export_pipeline.Export NAME``: a ``defs.yaml`` and a deployment file to fill in."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        """Write both into the requested folder, whose name becomes the prefix."""
        folder = Path(request.target_path)
        folder.mkdir(parents=True, exist_ok=True)
        attributes = {"deployment": _DEPLOYMENT, "prefix": folder.name}
        (folder / "defs.yaml").write_text(
            yaml.safe_dump({"type": request.type_name, "attributes": attributes}, sort_keys=False)
        )
        (folder / _DEPLOYMENT).write_text(textwrap.dedent(_STARTER))


@scaffold_with(ExportScaffolder)
class Export(Component, Model, Resolvable):
    """Delivers new files of raw events in a bucket to every subscriber: jobs, schedules, sensors, assets and checks."""

    deployment: str = Field(
        description="Path of the deployment file, which defines the source and its subscribers, relative to the folder "
        "of this defs.yaml."
    )
    prefix: str | None = Field(
        default=None,
        description="Prefix of the names of jobs, ops, resources and assets, so that several exports fit into one code "
        "location. By default the prefix of the deployment file.",
    )

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """Build the definitions of the deployment file."""
        return build_defs(context.path / self.deployment, prefix=self.prefix)
