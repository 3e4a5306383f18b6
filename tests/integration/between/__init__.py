"""What becomes of a store with something between it and its database."""
