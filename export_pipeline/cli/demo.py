"""``export-pipeline demo``: what ``make demo`` does."""

from export_pipeline.cli.session import Session


def demo(session: Session) -> int:
    """Make a sample bucket under .demo/, export it, and report.

    Called again, a few more files arrive. It takes the deployment local, whatever EXPORT_DEPLOYMENT says, and writes
    it, with the settings of Dagster, where the folder has none. It needs no account and no server.
    """
    from export_pipeline.demo import main

    return main(dev="export-pipeline dev", again="export-pipeline demo")
