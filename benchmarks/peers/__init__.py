"""One script per peer, run with the Python of the peer's environment."""
