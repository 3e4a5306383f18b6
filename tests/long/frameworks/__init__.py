"""Runs the frameworks' own tests with our adapters in place of their classes."""
