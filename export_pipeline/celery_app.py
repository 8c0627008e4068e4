"""The application for ``celery -A export_pipeline.celery_app worker``, of the deployment in EXPORT_DEPLOYMENT."""

import warnings

from dagster import BetaWarning

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import celery_app_of

# As in definitions.py.
warnings.filterwarnings("ignore", message="Parameter `owners` of initializer `SensorDefinition", category=BetaWarning)

app = celery_app_of(load_deployment(without_variables=True))
