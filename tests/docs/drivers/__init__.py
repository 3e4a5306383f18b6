"""Programs that drive the clients of pages, which `tests.docs.pages` runs."""
