"""Every version of Hermes Agent beside the store over its database, check by check."""
