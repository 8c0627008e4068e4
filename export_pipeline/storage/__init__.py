"""What reading and writing share: where a store is, how to log in to it."""
