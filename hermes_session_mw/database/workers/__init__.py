"""Where a database's work runs: in threads for sync drivers, in the event loop for async ones."""
