"""``export-pipeline demo``: what ``make demo`` does."""

from export_pipeline.cli.session import Session


def demo(session: Session) -> int:
    """Create a sample bucket under .demo/, export it, and show a report.

    Each further call adds a few files and exports only those. Uses the deployment local, whatever EXPORT_DEPLOYMENT
    says, and writes it and Dagster's settings if the folder has none. Needs no account and no server.
    """
    from export_pipeline.demo import main

    return main(dev="export-pipeline dev", again="export-pipeline demo")
