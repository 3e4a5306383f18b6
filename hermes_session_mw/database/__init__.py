"""Driving a database: engines, connections, transactions, errors, retries and workers."""
