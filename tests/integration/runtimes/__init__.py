"""What the package does by other interpreters, options and event loops than the tests' own."""
