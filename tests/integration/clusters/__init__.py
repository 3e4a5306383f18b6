"""Databases of more than one server, whose servers are killed while writers write."""
