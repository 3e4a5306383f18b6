"""The tables, their creation, and their migration from earlier versions."""
