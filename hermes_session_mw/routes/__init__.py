"""The REST routes of sessions: what they read, what they answer, and their description."""
