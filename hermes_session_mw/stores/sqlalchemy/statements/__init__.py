"""The SQL of each operation, and what is done with its rows."""
