"""The command ``export-pipeline``. docs/command_line.md describes it."""


def main() -> None:
    """Run the command line; never returns: ends the process with the exit code."""
    # Imported here, so that whoever imports a part of this package pays for that part only.
    from export_pipeline.cli.app import app

    app(prog_name="export-pipeline")
