"""Tags of runs, and other names used in dagster.yaml, workspace.yaml and the UI."""

# A tick costs one short query of the ledger, and no request to the source.
SENSOR_INTERVAL_SECONDS = 10

# workspace.yaml pins the same name: the cursor is stored under it.
LOCATION = "export_pipeline"

# dagster.yaml allows one run with this tag at a time.
LEDGER_TAG = "export_pipeline/ledger"
# Marks a run that materializes subscribers' assets, as LEDGER_TAG marks those of the jobs; any number may run.
RANGE_TAG = "export_pipeline/range"
# The executor that runs the steps of the run.
EXECUTOR_TAG = "export_pipeline/executor"
# The UI's dialog for a range of days accepts tags but no config; so does `dagster job backfill`.
SUBSCRIBERS_TAG = "export_pipeline/subscribers"
ONLY_TAG = "export_pipeline/only"
# The subscribers configured when a run of backfill_job was created: "all" means these, even if it starts hours later.
CONFIGURED_TAG = "export_pipeline/configured_subscribers"
# The identity of the ledger that a run uses, which is stored in the ledger.
LEDGER_IDENTITY_TAG = "export_pipeline/ledger_identity"
# Marks a run of export_job that found nothing and had nothing to deliver, so that it can be purged later.
FOUND_TAG, NOTHING, FILES = "export_pipeline/found", "nothing", "files"
TAG_PREFIXES = ("export_pipeline/", "export-pipeline/")
PRIORITY_TAG = "dagster/priority"
BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"
ROOT_RUN_TAG = "dagster/root_run_id"
# Set by Dagster where a run is executed again from failure.
RESUMED_TAG = "dagster/is_resume_retry"
# dagster-celery uses its own tag.
CELERY_PRIORITY_TAG = "dagster-celery/priority"
# Dagster's run monitoring ends a run after this many seconds, even if its process no longer responds.
MAX_RUNTIME_TAG = "dagster/max_runtime"
