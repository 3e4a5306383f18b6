"""The session object: history, turns, recording, editing, prompts."""
