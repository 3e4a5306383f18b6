"""Proxies and poolers between clients, workers and databases."""
