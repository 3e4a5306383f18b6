"""The contract that every store is held to."""
