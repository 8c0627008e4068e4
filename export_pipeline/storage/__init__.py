"""What reading and writing share: where a store is, and how to log in to it."""
