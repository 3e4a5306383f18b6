"""Generated header values, by the million: ``python -m tests.long.fuzz`` (``make fuzz``)."""
