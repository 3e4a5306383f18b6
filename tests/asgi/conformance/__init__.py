"""The conformance table: the same cases in every position, and with comparable middlewares."""
