"""What Dagster loads: the deployment that EXPORT_DEPLOYMENT names, as Dagster's definitions."""

import warnings

from dagster import BetaWarning

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import definitions_of

# Dagster passes this parameter to itself for every sensor, and every command would begin with a warning of it.
warnings.filterwarnings("ignore", message="Parameter `owners` of initializer `SensorDefinition", category=BetaWarning)

defs = definitions_of(load_deployment())
