"""Seeded chaos: the real work in real processes, while a driver kills them and breaks all that they depend on."""
