"""New files of raw events in a bucket reach every subscriber.

For a Dagster project that is there already: :func:`build_defs`, or the component :class:`Export`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import Definitions

    from export_pipeline.orchestration.component import Export

__all__ = ["Export", "build_defs"]


def build_defs(path: str | Path, *, prefix: str | None = None) -> "Definitions":
    """Jobs, schedules, sensors, assets, checks and resources of one export, to be merged with a team's own.

    ``defs = Definitions.merge(build_defs("deployments/web.yaml", prefix="web"), Definitions(…))``

    Args:
        path: of the deployment file, or its name under ``deployments/``. Relative paths in it start at the
            folder that holds ``deployments/``, else at the file's own.
        prefix: begins the names of all that it makes, so that several exports fit into one code location: ``web`` gives
            ``web_export_job`` and the asset ``web/raw_events``. By default what the file says under ``prefix``.

    Raises:
        ConfigurationError: something in the file, or the prefix, is wrong. It holds no secret.
    """
    from export_pipeline.deployment import load_deployment
    from export_pipeline.orchestration.build import definitions_of

    deployment = load_deployment(str(path), without_variables=True)
    return definitions_of(deployment if prefix is None else deployment.with_prefix(prefix))


def __getattr__(name: str) -> Any:
    """Import the component when it is asked for: Dagster takes most of a second, and `status` needs none of it."""
    if name == "Export":
        from export_pipeline.orchestration.component import Export

        return Export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """`dg list components` finds the component by looking through these names."""
    return sorted({*globals(), *__all__})
