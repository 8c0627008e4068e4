"""One script for each peer, run with the Python of the environment that the peer is installed in."""
