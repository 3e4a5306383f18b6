"""The executors that run database work, on threads and on event loops."""
