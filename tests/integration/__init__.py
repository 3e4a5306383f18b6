"""Several processes and real servers together."""
