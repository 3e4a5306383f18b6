"""What becomes of a store by each driver."""
