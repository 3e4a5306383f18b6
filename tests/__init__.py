"""The tests, on real databases and real servers."""
