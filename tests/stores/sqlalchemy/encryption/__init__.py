"""Encryption at rest: what is stored, what comes back, and what is refused."""
