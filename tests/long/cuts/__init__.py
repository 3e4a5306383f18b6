"""Clients, proxies, workers and database servers cut off while answers run: ``make cuts``."""
