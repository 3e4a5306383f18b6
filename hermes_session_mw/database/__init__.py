"""Driving a database: its engine and connections, transactions, errors, retries, and who waits."""
