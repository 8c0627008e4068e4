"""What Dagster loads: the deployment that EXPORT_DEPLOYMENT names, as Dagster's definitions."""

import gc
import warnings

from dagster import BetaWarning

# What importing made stays until the process ends. Looked through for garbage again and again, and once more at the
# end, it costs a quarter of the CPU time of a run that finds nothing; frozen, it is passed over.
gc.freeze()

from export_pipeline.deployment import load_deployment  # noqa: E402
from export_pipeline.orchestration.build import definitions_of  # noqa: E402

# Dagster passes this parameter to itself for every sensor, and every command would begin with a warning of it.
warnings.filterwarnings("ignore", message="Parameter `owners` of initializer `SensorDefinition", category=BetaWarning)

# A subscriber whose secret is missing stops itself, and nobody else.
defs = definitions_of(load_deployment(without_variables=True))

gc.freeze()
