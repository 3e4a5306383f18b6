"""What runs for hours when asked to, and for seconds in each run of the tests."""
