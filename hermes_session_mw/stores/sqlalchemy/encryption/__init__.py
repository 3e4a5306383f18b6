"""Encryption at rest, for a store with ``encryption=``; no other store imports it."""
