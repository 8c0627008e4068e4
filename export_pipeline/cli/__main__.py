"""``python -m export_pipeline.cli``."""

from export_pipeline.cli import main

if __name__ == "__main__":
    main()
