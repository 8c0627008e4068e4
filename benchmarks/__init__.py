"""Benchmarks of the export, next to other tools that do the same: ``make bench`` and ``make bench-scale``."""
