"""Generated header values, by the million: ``python -m tests.fuzz`` (``make fuzz``)."""
