"""The files that wrapped frameworks serve for browsers, and what caches are told of them."""
