"""Tags of runs, and other names that dagster.yaml, workspace.yaml and the UI's dialogs use."""

# A look costs one short query of the ledger, and nothing of the source.
SENSOR_INTERVAL_SECONDS = 10

# workspace.yaml pins the same name: the cursor is kept under it.
LOCATION = "export_pipeline"

# dagster.yaml allows one run with this tag at a time.
LEDGER_TAG = "export_pipeline/ledger"
# What runs the steps of a run that has this tag.
EXECUTOR_TAG = "export_pipeline/executor"
# The UI's dialog for a range of days takes tags and no config; so does `dagster job backfill`.
SUBSCRIBERS_TAG = "export_pipeline/subscribers"
ONLY_TAG = "export_pipeline/only"
# Who was configured when a run of backfill_job was made: "all" means them, also where the run starts hours later.
CONFIGURED_TAG = "export_pipeline/configured_subscribers"
# The ledger that a run works with, by the identity that is kept in it.
LEDGER_IDENTITY_TAG = "export_pipeline/ledger_identity"
# A run of export_job that found nothing, and had nothing to deliver, says so: by it old ones are purged.
FOUND_TAG, NOTHING, FILES = "export_pipeline/found", "nothing", "files"
TAG_PREFIXES = ("export_pipeline/", "export-pipeline/")
PRIORITY_TAG = "dagster/priority"
BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"
# dagster-celery asks for its own beside it.
CELERY_PRIORITY_TAG = "dagster-celery/priority"
# Dagster's run monitoring ends a run after so many seconds, also one whose process nobody has heard of since.
MAX_RUNTIME_TAG = "dagster/max_runtime"
