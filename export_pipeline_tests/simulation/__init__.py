"""A small world in which everything that can go wrong between two effects is tried, one case after the other."""
