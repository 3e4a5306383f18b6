"""Hermes Agent's own database, read and written beside Hermes Agent's own code."""
