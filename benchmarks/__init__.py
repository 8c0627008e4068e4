"""How fast the export is, beside others that do the same: ``make bench`` and ``make bench-scale``."""
