"""Several processes that serve, or write to, one database."""
