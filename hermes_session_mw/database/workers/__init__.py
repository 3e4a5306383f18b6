"""Who carries out a database's work: threads for sync drivers, the event loop for async ones."""
