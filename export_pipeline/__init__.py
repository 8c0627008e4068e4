"""Deliver new files of raw events in a bucket to every subscriber.

To add an export to an existing Dagster project, use :func:`build_defs`, or the component :class:`Export`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import Definitions

    from export_pipeline.orchestration.component import Export

__all__ = ["Export", "build_defs"]


def build_defs(path: str | Path, *, prefix: str | None = None) -> "Definitions":
    """Jobs, schedules, sensors, assets, checks and resources of one export, to merge with your own definitions.

    ``defs = Definitions.merge(build_defs("deployments/web.yaml", prefix="web"), Definitions(…))``

    Args:
        path: path of the deployment file, or its name under ``deployments/``. Relative paths in it start at the
            folder that contains ``deployments/``, otherwise at the file's own folder.
        prefix: prefix of all names, so that several exports fit into one code location: ``web`` gives
            ``web_export_job`` and the asset ``web/raw_events``. By default the ``prefix`` of the file.

    Raises:
        ConfigurationError: the file or the prefix is invalid. The message contains no secret.
    """
    from export_pipeline.deployment import load_deployment
    from export_pipeline.orchestration.build import loaded_definitions

    deployment = load_deployment(str(path), without_variables=True)
    return loaded_definitions(deployment if prefix is None else deployment.with_prefix(prefix))


def __getattr__(name: str) -> Any:
    """Import the component lazily: Dagster takes most of a second, and `status` does not need it."""
    if name == "Export":
        from export_pipeline.orchestration.component import Export

        return Export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, among which `dg list components` finds the component."""
    return sorted({*globals(), *__all__})
