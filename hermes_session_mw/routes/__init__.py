"""REST routes that list, read, rename, fork and delete sessions, and their OpenAPI description."""
