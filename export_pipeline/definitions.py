"""The definitions that Dagster loads: those of the deployment in EXPORT_DEPLOYMENT."""

import gc
import warnings

from dagster import BetaWarning

# Imported objects live until the process ends. Scanning them in every garbage collection, and again at exit, costs a
# quarter of the CPU time of a run that finds nothing; frozen objects are skipped.
gc.freeze()

from export_pipeline.deployment import load_deployment  # noqa: E402
from export_pipeline.orchestration.build import loaded_definitions  # noqa: E402

# Dagster uses this parameter itself for every sensor; without the filter every command would start with a warning.
warnings.filterwarnings("ignore", message="Parameter `owners` of initializer `SensorDefinition", category=BetaWarning)

# A missing secret stops only its subscriber.
defs = loaded_definitions(load_deployment(without_variables=True))

gc.freeze()
