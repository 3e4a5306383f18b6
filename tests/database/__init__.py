"""How a database is driven: connections, transactions, retries, errors, SQLite's file."""
